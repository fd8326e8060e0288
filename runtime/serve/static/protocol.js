// Binary messages of the live socket (see wire.py) and the strip of cells that carries a frame's number.
export const HEAD = 24;
export const FRAME = 1, SOUND = 2;
export const JPEG = 0, I420 = 1, NV12 = 2, H264 = 3;
export const KEY = 1, FULL_RANGE = 2, BT709 = 4;
export const STRIP = 16; // rows
const CELLS = 20; // white, black, 16 bits, their parity, its opposite

/** Milliseconds, the same in pages and workers. */
export const clock = () => performance.timeOrigin + performance.now();

export function writeHead(buffer, codec, flags, number, time, width, height, strip = STRIP) {
  const view = new DataView(buffer);
  view.setUint8(0, FRAME);
  view.setUint8(1, codec);
  view.setUint16(2, flags, true);
  view.setUint32(4, number, true);
  view.setFloat64(8, time, true);
  view.setUint16(16, width, true);
  view.setUint16(18, height, true);
  view.setUint16(20, strip, true);
  view.setUint16(22, 0, true);
}

export function readHead(buffer) {
  const view = new DataView(buffer);
  const length = view.getUint16(22, true);
  const meta = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEAD, length)));
  let at = HEAD + length;
  const parts = meta.parts.map((size) => new Uint8Array(buffer, (at += size) - size, size));
  return {
    codec: view.getUint8(1), flags: view.getUint16(2, true), number: view.getUint32(4, true),
    time: view.getFloat64(8, true), width: view.getUint16(16, true), height: view.getUint16(18, true),
    strip: view.getUint16(20, true), meta, parts,
  };
}

function bits(number) {
  const cells = [1, 0];
  let parity = 0;
  for (let bit = 15; bit >= 0; bit--) {
    cells.push((number >> bit) & 1);
    parity ^= (number >> bit) & 1;
  }
  return [...cells, parity, 1 - parity];
}

/** Draw the number's cells: paint(x, width, white) for each of them. */
export function paintStrip(number, width, paint) {
  bits(number & 0xffff).forEach((white, i) => {
    const x = Math.round((i * width) / CELLS);
    paint(x, Math.round(((i + 1) * width) / CELLS) - x, white);
  });
}

/** The number's low 16 bits from a row of brightness: level(x) 0..255; null if it cannot be read. */
export function readStrip(width, level) {
  const cells = [];
  for (let i = 0; i < CELLS; i++) cells.push(level(Math.round(((i + 0.5) * width) / CELLS)) > 127 ? 1 : 0);
  const number = cells.slice(2, 18).reduce((sum, bit) => sum * 2 + bit, 0);
  return bits(number).every((bit, i) => bit === cells[i]) ? number : null;
}
