// Collects blocks of 2048 samples as int16.
class Tap extends AudioWorkletProcessor {
  block = new Int16Array(2048);
  filled = 0;

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this.block[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === this.block.length) {
        const { buffer } = this.block;
        this.port.postMessage(buffer, [buffer]);
        this.block = new Int16Array(2048);
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("tap", Tap);
