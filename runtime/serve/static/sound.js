// The microphone for recordings: blocks of samples with the time of their first one.
import { clock } from "./protocol.js";

export class Microphone {
  #context = null;
  #stream = null;

  /** deliver(buffer of int16, samples/s, ms); throws where there is no microphone. */
  async start(deliver) {
    this.#stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
    this.#context = new AudioContext();
    await this.#context.audioWorklet.addModule("/static/sound-worklet.js");
    const source = this.#context.createMediaStreamSource(this.#stream);
    const tap = new AudioWorkletNode(this.#context, "tap", { numberOfOutputs: 0 });
    const rate = this.#context.sampleRate;
    tap.port.onmessage = ({ data }) => deliver(data, rate, clock() - (data.byteLength / 2 / rate) * 1000);
    source.connect(tap);
  }

  stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#context?.close();
    this.#stream = this.#context = null;
  }
}
