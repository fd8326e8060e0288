// The camera's frames, with the strip that carries their number, as messages of the live socket.
import { HEAD, JPEG, I420, NV12, H264, KEY, FULL_RANGE, BT709, STRIP, writeHead, paintStrip } from "./protocol.js";

export const CODEC = "avc1.42E01F"; // H.264 baseline
const TRIAL_MS = 5000; // a machine may be busy

export const isPlanar = (frame) => frame.format === "I420" || frame.format === "NV12";

const encoderSettings = (width, height, bitrate) => ({
  codec: CODEC, width, height, bitrate, framerate: 30, latencyMode: "realtime", avc: { format: "annexb" },
});

export class Outgoing {
  #buffer = new ArrayBuffer(0);
  #canvas = null;
  #context = null;
  #encoder = null;
  #encoderIs = ""; // what it was configured for
  #needKey = true;
  #head = null; // of the frame in the encoder
  #transmit;
  #failed;

  /** `transmit(message)` sends; `failed(error)`: there is no H.264 after all. */
  constructor({ transmit, failed }) {
    this.#transmit = transmit;
    this.#failed = failed;
  }

  /** The next picture of H.264 has to stand alone. */
  askKey() { this.#needKey = true; }

  async sendPlanes(frame, number, time) {
    const { width, height, flags } = await this.#packPlanes(frame, number);
    writeHead(this.#buffer, frame.format === "NV12" ? NV12 : I420, flags, number, time, width, height);
    this.#transmit(this.#buffer);
  }

  async sendJpeg(frame, number, time, { quality, scale }) {
    const { width, height } = this.onCanvas(frame, number, scale);
    const blob = await this.#canvas.convertToBlob({ type: "image/jpeg", quality });
    const message = new ArrayBuffer(HEAD + blob.size);
    new Uint8Array(message, HEAD).set(new Uint8Array(await blob.arrayBuffer()));
    writeHead(message, JPEG, 0, number, time, width, height);
    this.#transmit(message);
  }

  async sendH264(frame, number, time, { bitrate, scale }) {
    let picture, size;
    if (isPlanar(frame) && scale === 1) {
      size = await this.#packPlanes(frame, number);
      const settings = { format: frame.format, codedWidth: size.width, codedHeight: size.height, timestamp: number * 33333, colorSpace: frame.colorSpace };
      picture = new VideoFrame(new Uint8Array(this.#buffer, HEAD), settings);
    } else {
      size = this.onCanvas(frame, number, scale);
      picture = new VideoFrame(this.#canvas, { timestamp: number * 33333 });
    }
    const wanted = `${size.width}x${size.height}@${bitrate}`;
    if (this.#encoderIs !== wanted || this.#encoder?.state !== "configured") {
      if (this.#encoder?.state === "configured") this.#encoder.close();
      this.#encoder = new VideoEncoder({ output: (chunk) => this.#encoded(chunk), error: this.#failed });
      this.#encoder.configure(encoderSettings(size.width, size.height, bitrate));
      this.#encoderIs = wanted;
      this.#needKey = true;
    }
    this.#head = { number, time, ...size };
    this.#encoder.encode(picture, { keyFrame: this.#needKey });
    this.#needKey = false;
    picture.close();
  }

  #encoded(chunk) {
    const { number, time, width, height } = this.#head;
    const message = new ArrayBuffer(HEAD + chunk.byteLength);
    chunk.copyTo(new Uint8Array(message, HEAD));
    writeHead(message, H264, chunk.type === "key" ? KEY : 0, number, time, width, height);
    this.#transmit(message);
  }

  /** The frame and its strip as bare planes behind room for a head, without a detour over a canvas. */
  async #packPlanes(frame, number) {
    const rect = frame.visibleRect, width = rect.width & ~1, rows = rect.height & ~1, height = rows + STRIP;
    const size = HEAD + (width * height * 3) / 2;
    if (this.#buffer.byteLength !== size) this.#buffer = new ArrayBuffer(size);
    const bytes = new Uint8Array(this.#buffer, HEAD), y = width * height, half = width / 2;
    const semi = frame.format === "NV12";
    const layout = semi
      ? [{ offset: 0, stride: width }, { offset: y, stride: width }]
      : [{ offset: 0, stride: width }, { offset: y, stride: half }, { offset: y + (half * height) / 2, stride: half }];
    await frame.copyTo(bytes, { rect: { x: rect.x & ~1, y: rect.y & ~1, width, height: rows }, layout });
    paintStrip(number, width, (x, w, white) => {
      for (let row = rows; row < height; row++) bytes.fill(white ? 235 : 16, row * width + x, row * width + x + w);
    });
    const chroma = semi ? [[y, width]] : [[y, half], [y + (half * height) / 2, half]];
    for (const [at, stride] of chroma) bytes.fill(128, at + (stride * rows) / 2, at + (stride * height) / 2);
    const space = frame.colorSpace;
    const flags = (space.fullRange ? FULL_RANGE : 0) | (space.matrix === "bt709" ? BT709 : 0);
    return { width, height, flags };
  }

  /** The frame and its strip on a canvas. */
  onCanvas(frame, number, scale) {
    const fullWidth = frame.displayWidth ?? frame.width, fullHeight = frame.displayHeight ?? frame.height;
    const width = Math.round(fullWidth * scale) & ~1, rows = Math.round(fullHeight * scale) & ~1, height = rows + STRIP;
    if (!this.#canvas || this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas = new OffscreenCanvas(width, height);
      this.#context = this.#canvas.getContext("2d", { alpha: false });
    }
    this.#context.drawImage(frame, 0, 0, width, rows);
    paintStrip(number, width, (x, w, white) => {
      this.#context.fillStyle = white ? "#fff" : "#000";
      this.#context.fillRect(x, rows, w, STRIP);
    });
    return { canvas: this.#canvas, width, height };
  }
}

/** Does H.264 really come out of the encoder, and a picture of the decoder? Some browsers promise both without having them. */
export async function tryH264(bitrate) {
  const settings = encoderSettings(640, 496, bitrate);
  if (!(await VideoEncoder.isConfigSupported(settings)).supported) return false;
  if (!(await VideoDecoder.isConfigSupported({ codec: CODEC })).supported) return false;
  const gray = new OffscreenCanvas(640, 496);
  gray.getContext("2d").fillRect(0, 0, 640, 496);
  let coder, reader;
  try {
    return await new Promise((done) => {
      const failed = () => done(false);
      setTimeout(failed, TRIAL_MS);
      reader = new VideoDecoder({ output: (picture) => { picture.close(); done(true); }, error: failed });
      reader.configure({ codec: CODEC, optimizeForLatency: true });
      coder = new VideoEncoder({ output: (chunk) => reader.state === "configured" && reader.decode(chunk), error: failed });
      coder.configure(settings);
      for (let i = 0; i < 3; i++) {
        const picture = new VideoFrame(gray, { timestamp: i * 33333 });
        coder.encode(picture, { keyFrame: i === 0 });
        picture.close();
      }
    });
  } finally {
    for (const one of [coder, reader]) if (one && one.state !== "closed") one.close();
  }
}
