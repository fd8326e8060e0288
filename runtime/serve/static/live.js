// The page's half of the live run: the camera, and the worker that talks to the server.
import { call } from "./api.js";
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
  #way = ["auto", false];
  #peer = null;

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
  /** "auto", "raw", "h264", "jpeg" or, with a camera that runs, "webrtc"; `plain`: a server that does nothing for it. */
  async setWay(way, plain = false) {
    this.#way = [way, plain];
    this.#worker.postMessage({ type: "way", way: way === "webrtc" ? "auto" : way });
    if (way === "webrtc") {
      if (this.#stream) await this.#connect(plain);
    } else {
      this.#disconnect();
    }
  }

  mirror(on) { this.#worker.postMessage({ type: "mirror", on }); }
  /** Tell of a frame of this camera that came back another way: the low bits of its strip, and when. */
  seen(number, time) { this.#worker.postMessage({ type: "seen", number, time }); }

  get overRtc() { return this.#peer !== null; }
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
    const [way, plain] = this.#way;
    if (way === "webrtc") await this.#connect(plain).catch((error) => this.#tell("error", { text: error.message }));
  }

  stop() {
    this.#device = null;
    clearTimeout(this.#again);
    this.#release();
    this.#disconnect();
    this.#worker.postMessage({ type: "leave" });
    this.#tell("camera", { running: false });
  }

  /** Be the source again, after another page or the server was. */
  async take() { await this.start(this.#device ?? ""); }

  async #connect(plain) {
    this.#disconnect();
    if (!window.MediaStreamTrackGenerator) throw new Error(t("camera.failed", { reason: "WebRTC" }));
    const peer = new RTCPeerConnection();
    this.#peer = peer;
    const sending = new MediaStreamTrackGenerator({ kind: "video" });
    const { receiver } = peer.addTransceiver(sending, { direction: "sendrecv" });
    if (!plain) receiver.jitterBufferTarget = 0; // the newest picture, not the smoothest motion
    peer.onconnectionstatechange = () => {
      if (this.#peer === peer && ["failed", "disconnected"].includes(peer.connectionState)) this.#connect(plain).catch(() => this.#disconnect());
    };
    await peer.setLocalDescription(await peer.createOffer());
    if (peer.iceGatheringState !== "complete") {
      await new Promise((done) => { peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done(); setTimeout(done, 1500); });
    }
    try {
      const { sdp, type } = peer.localDescription;
      await peer.setRemoteDescription(await call("POST", "/api/webrtc", { sdp, type, plain }));
    } catch (error) {
      this.#disconnect();
      throw error;
    }
    const { writable } = sending, { readable } = new MediaStreamTrackProcessor({ track: receiver.track, maxBufferSize: 1 });
    this.#worker.postMessage({ type: "rtc", writable, readable }, [writable, readable]);
  }

  #disconnect() {
    if (!this.#peer) return;
    this.#peer.onconnectionstatechange = null;
    this.#peer.close();
    this.#peer = null;
    this.#worker.postMessage({ type: "noRtc" });
  }

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
      try {
        if (video.videoWidth) {
          const frame = window.VideoFrame ? new VideoFrame(video) : await createImageBitmap(video);
          this.#worker.postMessage({ type: "image", frame, time }, [frame]);
        }
      } catch { /* this one could not be copied; the next may */ }
      if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(step);
      else setTimeout(step, 33);
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(step);
    else setTimeout(step, 33);
  }
}
