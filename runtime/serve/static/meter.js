// Figures below the picture: glass to glass with a plot of the last minute, frames/s, and where the time goes.
import { find, t } from "./texts.js";

const $ = (id) => document.getElementById(id);
const SECONDS = 60;
const TELL_MS = 5000; // between two descriptions of the plot for those who hear it
const STAGES = [["read", "#8a8aa0"], ["track", "#3f8efc"], ["align", "#2bb3a3"], ["encode", "#9c6bff"], ["edit", "#f4a340"],
  ["synthesize", "#ef5da8"], ["composite", "#7fb834"], ["send", "#c0c0cf"]];

export class Meter {
  #samples = []; // [when, age]
  #shown = []; // when
  #plot = $("plot").getContext("2d");
  #style = getComputedStyle(document.documentElement); // follows the theme
  #told = -TELL_MS; // when the plot was last put into words

  constructor() { setInterval(() => this.#draw(), 250); }

  shown({ age, dropped, state }) {
    if (state !== "live") return;
    const now = performance.now();
    this.#shown.push(now);
    if (age !== null) this.#samples.push([now, age]);
    this.dropped = dropped;
  }

  status({ stages_ms: stages, dropped }) {
    $("m-dropped").textContent = dropped + (this.dropped ?? 0);
    const parts = STAGES.filter(([name]) => stages[name] > 0.005);
    const total = parts.reduce((sum, [name]) => sum + stages[name], 0) || 1;
    const track = document.createElement("div"), names = document.createElement("div");
    track.className = "track";
    names.className = "names";
    for (const [name, color] of parts) {
      const bar = document.createElement("i"), entry = document.createElement("span"), dot = document.createElement("b");
      bar.style.width = `${(stages[name] / total) * 100}%`;
      bar.style.background = dot.style.background = color;
      track.append(bar);
      entry.append(dot, `${find(`stage.${name}`) ?? name} ${stages[name].toFixed(1)}`);
      names.append(entry);
    }
    const box = $("stages");
    box.setAttribute("aria-label", `${t("meter.stages")}: ${parts.map(([name]) => `${name} ${stages[name].toFixed(1)}`).join(", ")}`);
    box.title = t("meter.stages");
    box.replaceChildren(track, names);
  }

  /** When the last measured picture was shown, ms. */
  newest() { return this.#samples.at(-1)?.[0] ?? 0; }

  figures() {
    const ages = this.#samples.filter(([when]) => when > performance.now() - 10000).map(([, age]) => age).sort((a, b) => a - b);
    const at = (share) => ages[Math.min(ages.length - 1, Math.floor(ages.length * share))];
    return { count: ages.length, median: at(0.5), p95: at(0.95), rate: this.#rate() };
  }

  #rate() {
    const now = performance.now();
    while (this.#shown.length && this.#shown[0] < now - 2000) this.#shown.shift();
    return this.#shown.length / 2;
  }

  #draw() {
    const now = performance.now(), start = now - SECONDS * 1000;
    while (this.#samples.length && this.#samples[0][0] < start) this.#samples.shift();
    const { median, p95, rate, count } = this.figures();
    $("m-age").textContent = count ? `${Math.round(median)} ms` : "–";
    $("m-rate").textContent = rate ? rate.toFixed(rate < 10 ? 1 : 0) : "–";
    if (document.hidden) return;
    const canvas = this.#plot.canvas, style = this.#style;
    const width = Math.round(canvas.clientWidth * devicePixelRatio), height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const plot = this.#plot, top = Math.max(200, ...this.#samples.map(([, age]) => age)) * 1.05;
    plot.clearRect(0, 0, width, height);
    plot.font = `${10 * devicePixelRatio}px system-ui, sans-serif`;
    const step = top > 2000 ? 1000 : top > 900 ? 500 : top > 300 ? 200 : 100;
    for (let ms = step; ms < top; ms += step) {
      const y = height - (ms / top) * height;
      plot.fillStyle = style.getPropertyValue("--line");
      plot.fillRect(0, Math.round(y), width, 1);
      plot.fillStyle = style.getPropertyValue("--soft");
      if (y > 12 * devicePixelRatio) plot.fillText(`${ms}`, 2, y - 2);
    }
    plot.fillStyle = style.getPropertyValue("--accent");
    const size = Math.max(1.6, 1.3 * devicePixelRatio);
    for (const [when, age] of this.#samples) plot.fillRect(((when - start) / (SECONDS * 1000)) * width, height - (age / top) * height, size, size);
    if (now - this.#told < TELL_MS) return;
    this.#told = now;
    canvas.setAttribute("aria-label", t("meter.plot", { median: count ? Math.round(median) : "–", p95: count ? Math.round(p95) : "–" }));
  }
}
