// What a line carries decides what is sent over it: bare planes, H.264 or JPEG, and how fine.
import { clock } from "./protocol.js";

const PROBES = 3; // small frames first: an address of this machine may be a tunnel to another
const PROBE_MS = 80;
const STUBBORN_MS = 30000;
const LATE_MS = 300; // of a transfer, from which on the line is too thin for what is sent
const CROWDED_MS = 60; // of a transfer: after a step up, that is one too many
const MOST_PATIENCE_MS = 120000;
// What to send when the line is thin: bits/s of H.264; quality and scale of JPEG.
const RUNGS = [
  { bitrate: 4e6, quality: 0.85, scale: 1 }, { bitrate: 2.5e6, quality: 0.75, scale: 1 },
  { bitrate: 1.2e6, quality: 0.6, scale: 0.75 }, { bitrate: 5e5, quality: 0.5, scale: 0.5 },
  { bitrate: 2.5e5, quality: 0.4, scale: 0.375 },
];

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;

export class Line {
  way = "auto"; // or "raw", "h264", "jpeg"
  loopback = false;
  planes = true; // the camera's frames can be copied without an encoder
  encoderWorks = false;
  rung = 0;
  thin = false;
  #probes = 0; // frames of the present camera that were acknowledged
  #transfers = [];
  #ages = [];
  #climb = null; // what was sent before a step up, and how old pictures were then
  #trial = null; // what was sent before a step down, and how long that took
  #stubbornUntil = 0; // smaller pictures did not arrive sooner: it is the processor that is busy
  #calmSince = 0;
  #patience = 6000;
  #probed;
  #changed;

  /** `probed()`: enough is known of the line; `changed()`: from now on something else is sent. */
  constructor({ probed, changed }) {
    this.#probed = probed;
    this.#changed = changed;
  }

  get settings() { return RUNGS[this.rung]; }

  get codec() {
    if (this.way !== "auto") return this.way === "h264" && !this.encoderWorks ? "jpeg" : this.way;
    if (this.loopback && !this.thin && this.planes) return this.#probes < PROBES ? "jpeg" : "raw";
    return this.encoderWorks ? "h264" : "jpeg";
  }

  probeAgain() { this.#probes = 0; }

  choose(way) {
    this.way = way;
    this.rung = this.#probes = 0;
    this.thin = false;
  }

  /** A picture was that old, in ms, when it was shown. */
  shown(age) {
    this.#ages.push(age);
    if (this.#ages.length > 15) this.#ages.shift();
  }

  /** A frame of so many bytes took so many ms to the server and its acknowledgement back. */
  arrived(transfer, size, paced) {
    this.#transfers.push(transfer);
    if (this.#transfers.length > 12) this.#transfers.shift();
    if (this.way !== "auto" || !paced) return;
    this.#probes++;
    if (this.loopback && !this.thin && this.#probes === PROBES) {
      if (median(this.#transfers) > PROBE_MS) this.#becomeThin(transfer, size);
      else this.#probed();
    }
    else if (transfer > LATE_MS && this.#probes > 1) this.#becomeThin(transfer, size);
  }

  /** The line carried `size` bytes in `transfer` ms: take what needs less than two thirds of that. */
  #becomeThin(transfer, size) {
    if (clock() < this.#stubbornUntil) return;
    const bits = (size * 8000) / transfer, before = this.rung, last = RUNGS.length - 1;
    const fits = RUNGS.findIndex(({ bitrate }) => bitrate < bits * 0.66);
    const tried = { transfer: median(this.#transfers), rung: this.rung, thin: this.thin };
    if (this.loopback && !this.thin) this.thin = true;
    else if (this.encoderWorks || before === last) { if (fits === before || fits === -1 && before === last) return; }
    this.rung = this.encoderWorks ? (fits === -1 ? last : fits) : Math.min(before + 1, last);
    this.#patience = Math.min(this.#patience * 1.5, MOST_PATIENCE_MS);
    this.#restart(tried);
  }

  /** Send the other way from now on. */
  #restart(tried = null) {
    this.#trial = tried;
    this.#climb = null;
    this.#transfers.length = this.#ages.length = 0;
    this.#calmSince = 0;
    this.#changed();
  }

  #goBack({ rung, thin }) {
    this.rung = rung;
    this.thin = thin;
  }

  /** Now and then: a thin line gets smaller pictures, a wide one better ones. */
  adapt() {
    if (this.way !== "auto" || this.#transfers.length < 4) return;
    const transfer = median(this.#transfers), age = median(this.#ages);
    if (this.#trial) {
      if (this.#transfers.length < 6) return;
      if (transfer > 0.75 * this.#trial.transfer) {
        this.#goBack(this.#trial);
        this.#stubbornUntil = clock() + STUBBORN_MS;
        this.#restart();
        return;
      }
      this.#trial = null;
    }
    if (this.#climb) {
      if (this.#transfers.length < 12) return;
      const older = this.#ages.length > 7 && age > 1.25 * this.#climb.age + 10;
      if (older || transfer > CROWDED_MS) { // finer pictures are not worth older ones
        this.#goBack(this.#climb);
        this.#patience = Math.min(this.#patience * 2, MOST_PATIENCE_MS);
        this.#restart();
        return;
      }
      this.#climb = null;
    }
    const before = { transfer, rung: this.rung, thin: this.thin };
    if (transfer > 120 || (age > 700 && transfer > 30)) {
      if (this.rung === RUNGS.length - 1 || clock() < this.#stubbornUntil) return;
      if (this.loopback && !this.thin) this.thin = true; else this.rung++;
      this.#patience = Math.min(this.#patience * 1.5, MOST_PATIENCE_MS);
      this.#restart(before);
    } else if (transfer < 40 && age < 350 && (this.rung || this.thin)) {
      this.#calmSince ||= clock();
      if (clock() - this.#calmSince < this.#patience) return;
      const now = { rung: this.rung, thin: this.thin, age };
      if (this.rung) this.rung--;
      else this.thin = false;
      this.#restart();
      this.#climb = now;
    } else {
      this.#calmSince = 0;
    }
  }
}
