// The page's half of the live run: the camera, and the worker that talks to the server.
import { t } from "./texts.js";
import { clock } from "./protocol.js";

const CAMERA = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];
const AGAIN_MS = 700;

export class Live extends EventTarget {
  #worker = new Worker("/static/live-worker.js", { type: "module" });
  #stream = null;
  #device = null; // the id that was chosen; "" for the browser's first
  #video = null;
  #again = 0;

  constructor(after, before) {
    super();
    const planes = [after.transferControlToOffscreen(), before.transferControlToOffscreen()];
    const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`;
    const loopback = LOOPBACK.includes(location.hostname);
    this.#worker.postMessage({ type: "start", after: planes[0], before: planes[1], address, loopback }, planes);
    this.#worker.onmessage = ({ data }) => this.#tell(data.type, data);
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#devicesChanged());
  }

  get running() { return this.#stream !== null; }
  get wanted() { return this.#device !== null; }
  get device() { return this.#stream?.getVideoTracks()[0].getSettings().deviceId ?? this.#device; }

  want(want) { this.#worker.postMessage({ type: "want", want }); }
  setWay(way) { this.#worker.postMessage({ type: "way", way }); }
  sound(samples, rate, time) { this.#worker.postMessage({ type: "sound", samples, rate, time }, [samples]); }

  /** Cameras as {id, label}; labels are empty until the user allowed one. */
  async cameras() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return devices.filter(({ kind }) => kind === "videoinput").map(({ deviceId, label }) => ({ id: deviceId, label }));
  }

  /** Use a camera from now on; throws an Error with a text for people. */
  async start(device = "") {
    if (!navigator.mediaDevices?.getUserMedia) throw new Error(t("camera.insecure"));
    this.#device = device;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: device ? { ...CAMERA, deviceId: { exact: device } } : CAMERA });
    } catch (error) {
      const key = { NotAllowedError: "denied", NotFoundError: "none", OverconstrainedError: "none", NotReadableError: "busy" }[error.name];
      throw new Error(key ? t(`camera.${key}`) : t("camera.failed", { reason: error.message }));
    }
    this.#release();
    this.#stream = stream;
    const [track] = stream.getVideoTracks();
    track.onended = () => this.#lost();
    if (window.MediaStreamTrackProcessor) {
      const { readable } = new MediaStreamTrackProcessor({ track, maxBufferSize: 1 });
      this.#worker.postMessage({ type: "readable", readable }, [readable]);
    } else {
      this.#worker.postMessage({ type: "images" });
      this.#copyImages(stream);
    }
    this.#tell("camera", { running: true });
  }

  stop() {
    this.#device = null;
    clearTimeout(this.#again);
    this.#release();
    this.#worker.postMessage({ type: "leave" });
    this.#tell("camera", { running: false });
  }

  /** Be the source again, after another page or the server was. */
  async take() { await this.start(this.#device ?? ""); }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }

  #release() {
    this.#stream?.getTracks().forEach((track) => { track.onended = null; track.stop(); });
    this.#stream = this.#video = null;
  }

  /** Unplugged: try until it, or another, is there. */
  #lost() {
    this.#release();
    this.#tell("camera", { running: false, lost: true });
    const attempt = async () => {
      if (this.#device === null || this.#stream) return;
      const device = this.#device;
      try {
        await this.start(device);
      } catch {
        try { await this.start(""); this.#device = device; } catch { this.#device = device; this.#again = setTimeout(attempt, AGAIN_MS); }
      }
    };
    this.#again = setTimeout(attempt, 200);
  }

  #devicesChanged() {
    this.#tell("devices", {});
    if (this.#device !== null && !this.#stream) this.#lost();
  }

  /** Where a browser has no MediaStreamTrackProcessor. */
  #copyImages(stream) {
    const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
    this.#video = video;
    video.play();
    const step = async (now, metadata) => {
      if (this.#video !== video) return;
      const time = metadata?.captureTime ? performance.timeOrigin + metadata.captureTime : clock();
      if (video.videoWidth) {
        const bitmap = await createImageBitmap(video);
        this.#worker.postMessage({ type: "image", bitmap, time }, [bitmap]);
      }
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(step);
      else setTimeout(step, 33);
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(step);
    else setTimeout(step, 33);
  }
}
