// Results of the live socket, decoded and drawn; the strip of each tells how old it is.
import { H264, KEY, STRIP, clock, readHead, readStrip } from "./protocol.js";
import { CODEC } from "./outgoing.js";

export class Incoming {
  mirrored = false;
  #after;
  #before;
  #hooks;
  #decoder = null;
  #decoderReady = false;
  #waiting = new Map(); // stamp -> head, in the H.264 decoder
  #stamp = 0;
  #latest = 0; // number of the last result
  #lastAge = null;
  #drawn = 0;
  #shownNext = null;
  #frameAsked = 0;
  #row = new Uint8Array(0);
  #small = null;

  /** Contexts of two canvases; `say(message)` to the server; `shown(head, age)`: it is on a canvas, the one before
   * was that old; `began(number)`: when the frame with these low bits was captured; `aged(age)`; `skipped()`: how many. */
  constructor(after, before, hooks) {
    this.#after = after;
    this.#before = before;
    this.#hooks = hooks;
  }

  /** A new connection begins with a whole picture. */
  reset() { this.#decoderReady = false; }

  async received(data) {
    const head = readHead(data);
    this.#latest = head.number;
    try {
      if (head.codec === H264) {
        this.#decodeH264(head);
        return; // shown when the decoder gives it
      }
      await this.show(head, await decodeJpeg(head.parts[0]));
    } catch (error) {
      postMessage({ type: "error", text: String(error) });
      this.#hooks.say({ type: "ack", number: head.number });
    }
  }

  #decodeH264(head) {
    const { say } = this.#hooks;
    if (this.#decoder?.state !== "configured") {
      this.#decoder = new VideoDecoder({
        output: (picture) => {
          const own = this.#waiting.get(picture.timestamp);
          this.#waiting.delete(picture.timestamp);
          if (own) this.show(own, picture); else picture.close();
        },
        error: () => { this.#decoderReady = false; say({ type: "key" }); say({ type: "ack", number: this.#latest }); },
      });
      this.#decoder.configure({ codec: CODEC, optimizeForLatency: true });
      this.#decoderReady = false;
    }
    const isKey = Boolean(head.flags & KEY);
    if (!this.#decoderReady && !isKey) {
      say({ type: "key" });
      say({ type: "ack", number: head.number });
      return;
    }
    this.#decoderReady = true;
    const stamp = ++this.#stamp;
    this.#waiting.set(stamp, head);
    if (this.#waiting.size > 30) this.#waiting.clear();
    this.#decoder.decode(new EncodedVideoChunk({ type: isKey ? "key" : "delta", timestamp: stamp, data: head.parts[0] }));
  }

  async show(head, picture) {
    const width = head.width, rows = head.height - head.strip;
    const [, old, mesh] = head.parts;
    let past = null;
    try {
      if (old.length) past = await decodeJpeg(old);
      const read = head.strip ? await this.#readNumber(picture, width, rows) : null;
      draw(this.#after, picture, width, rows);
      if (this.mirrored && head.meta.badge) this.#turnBack(picture, head.meta.badge);
      if (past) {
        const w = past.displayWidth ?? past.width;
        draw(this.#before, past, w, Math.round((rows * w) / width));
      }
      this.#drawn++;
      this.#hooks.shown(head, this.#lastAge);
      const began = read === null ? null : this.#hooks.began(read);
      this.#shownNext = {
        began, number: head.number, width, height: rows, state: head.meta.state, faceState: head.meta.face_state,
        faces: head.meta.faces, mesh: mesh.length ? mesh.slice() : null, past: Boolean(past), dropped: this.#hooks.skipped(),
      };
      this.#frameAsked ||= requestAnimationFrame(() => this.#tellShown()); // one at a time: a hidden tab gets none
    } finally {
      picture.close();
      past?.close();
    }
  }

  /** Letters that the page's mirror would turn around are turned around before. */
  #turnBack(picture, [x, y, width, height]) {
    this.#after.setTransform(-1, 0, 0, 1, 2 * x + width, 0);
    this.#after.drawImage(picture, x, y, width, height, x, y, width, height);
    this.#after.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** At the next refresh of the screen the picture is out: that is its age. */
  #tellShown() {
    this.#frameAsked = 0;
    const { began, ...shown } = this.#shownNext;
    if (typeof began === "number") {
      this.#lastAge = clock() - began;
      this.#hooks.aged(this.#lastAge);
    }
    postMessage({ type: "shown", age: typeof began === "number" ? this.#lastAge : null, drawn: this.#drawn, ...shown });
  }

  /** What the strip of a picture says. */
  async #readNumber(picture, width, rows) {
    const y = (rows + STRIP / 2) & ~1;
    if (picture.copyTo && picture.format) {
      const rect = { x: 0, y, width: width & ~1, height: 2 };
      const size = picture.allocationSize({ rect });
      if (this.#row.length < size) this.#row = new Uint8Array(size);
      await picture.copyTo(this.#row, { rect });
      const step = /^(RGB|BGR)/.test(picture.format) ? 4 : 1;
      return readStrip(width, (x) => this.#row[x * step + (step === 4 ? 1 : 0)]);
    }
    this.#small ??= new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    if (this.#small.canvas.width !== width) this.#small.canvas.width = width;
    this.#small.drawImage(picture, 0, y, width, 1, 0, 0, width, 1);
    const pixels = this.#small.getImageData(0, 0, width, 1).data;
    return readStrip(width, (x) => pixels[x * 4 + 1]);
  }
}

async function decodeJpeg(bytes) {
  if (typeof ImageDecoder !== "undefined") {
    const decoder = new ImageDecoder({ type: "image/jpeg", data: bytes });
    try {
      return (await decoder.decode()).image;
    } finally {
      decoder.close();
    }
  }
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
}

function draw(target, picture, width, height) {
  const canvas = target.canvas;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  target.drawImage(picture, 0, 0, width, height, 0, 0, width, height);
}
