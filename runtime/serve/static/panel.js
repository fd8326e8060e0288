// The controls: built from what the server says there is, sent as they are turned.
import { call } from "./api.js";
import { find, t } from "./texts.js";

const $ = (id) => document.getElementById(id);
const GROUPS = ["person", "expression", "hair", "looks", "pose", "more"];
const OPEN = new Set(JSON.parse(localStorage.getItem("doppelgan.open") ?? '["person","expression","hair"]'));
const BADGES = ["top-left", "top-right", "bottom-left", "bottom-right", "off"];
const words = (name) => name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
export const nameOf = (direction) => find(`name.${direction}`) ?? words(direction);

export class Panel {
  #state = null;
  #shape = ""; // which sliders there are
  #pending = {};
  #sending = false;
  #steps = []; // styles that the dial between two of them goes through
  #turning = null; // the input that is being dragged
  #fail;

  constructor(fail) {
    this.#fail = fail;
    $("undo").onclick = () => this.post("/api/undo");
    $("redo").onclick = () => this.post("/api/redo");
    $("reset").onclick = () => this.post("/api/reset");
    $("bundle").onchange = () => this.change({ bundle: $("bundle").value });
    this.#dial("blend", (value) => ({ blend: value }), 1);
    this.#dial("toward", (step) => ({ style: this.#steps[step] }), 0);
    this.#dial("truncation", (value) => ({ truncation: value }), 1);
    $("lock").onchange = () => this.change({ identity_lock: $("lock").checked });
    $("badge").append(...BADGES.map((place) => new Option(find(`badge.${place}`) ?? words(place), place)));
    $("badge").onchange = () => this.change({ badge: $("badge").value });
    $("faces").onchange = () => $("faces").reportValidity() && this.change({ max_faces: Number($("faces").value) });
    $("text").onchange = () => this.#typed();
    $("save-form").onsubmit = () => this.#save($("save-name").value.trim());
    $("save-name").oninput = () => this.#nameSave();
    $("save-cancel").onclick = () => $("save-dialog").close();
    document.addEventListener("pointerup", () => { this.#turning = null; });
  }

  get state() { return this.#state; }

  /** What the server says the controls are. */
  show(state) {
    const fresh = this.#state === null;
    const presets = JSON.stringify(state.presets) !== JSON.stringify(this.#state?.presets);
    this.#state = state;
    const shape = JSON.stringify([state.bundle, state.bundles, state.modes]);
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#build(state);
    }
    if (presets || fresh) this.#presets(state.presets);
    this.#fill(state);
  }

  change(changes) {
    const edits = { ...this.#pending.edits, ...changes.edits };
    this.#pending = { ...this.#pending, ...changes };
    if (Object.keys(edits).length) this.#pending.edits = edits;
    this.#send();
  }

  async post(path) {
    try { await call("POST", path); } catch (error) { this.#fail(error); }
  }

  preset(index) {
    const name = this.#state?.presets[index];
    if (name) this.post(`/api/presets/${encodeURIComponent(name)}`);
  }

  nextStyle() {
    const { bundle: { dials }, controls: { style } } = this.#state, styles = Object.keys(dials);
    this.change({ style: styles[(styles.indexOf(ledTo(dials, style)) + 1) % styles.length] });
  }

  /** One request at a time; what is turned meanwhile goes with the next. */
  async #send() {
    if (this.#sending) return;
    this.#sending = true;
    while (Object.keys(this.#pending).length) {
      const changes = this.#pending;
      this.#pending = {};
      try {
        await call("PATCH", "/api/state", changes);
      } catch (error) {
        this.#fail(error);
        if (this.#state) this.#fill(this.#state);
      }
    }
    this.#sending = false;
  }

  #build({ bundle, bundles, modes }) {
    $("bundle").replaceChildren(...bundles.map((name) => new Option(name, name)));
    segments($("styles"), Object.keys(bundle.dials), "style", styleName, () => "", (style) => this.change({ style }));
    segments($("modes"), modes, "mode", (mode) => find(`mode.${mode}`) ?? mode, (mode) => find(`mode.${mode}.hint`) ?? "", (composite) => this.change({ composite }));
    this.#buildToward(bundle);
    $("lock").closest("label").hidden = !bundle.has_memory;
    const groups = [...new Set([...GROUPS, ...bundle.directions.map(({ group }) => group)])];
    $("groups").replaceChildren(...groups.map((group) => this.#group(group, bundle.directions.filter((one) => one.group === group))).filter(Boolean));
  }

  /** The dial from the first style to another; disabled, among the fine tuning, where there is nothing between. */
  #buildToward({ dials }) {
    const dial = $("toward-dial"), first = Object.keys(dials)[0], works = Object.values(dials).some((steps) => steps.length > 1);
    dial.hidden = Object.keys(dials).length < 2;
    $("toward").disabled = !works;
    dial.classList.toggle("off", !works);
    if (works) $("styles").after(dial); else $("fine").append(dial);
    this.#toward(dials, Object.keys(dials).find((style) => dials[style].length > 1) ?? Object.keys(dials)[1] ?? first);
    $("toward-hint").textContent = t(works ? "panel.toward.hint" : "panel.toward.absent", { first: styleName(first), last: styleName(Object.keys(dials)[1] ?? first) });
  }

  #toward(dials, style) {
    this.#steps = dials[style];
    $("toward").max = Math.max(this.#steps.length - 1, 1);
    $("toward-label").textContent = t("panel.toward", { first: styleName(Object.keys(dials)[0]), last: styleName(style) });
  }

  #group(name, directions) {
    if (!directions.length) return null;
    const group = make("details", { className: "group", open: OPEN.has(name) });
    group.dataset.group = name;
    group.ontoggle = () => {
      OPEN[group.open ? "add" : "delete"](name);
      localStorage.setItem("doppelgan.open", JSON.stringify([...OPEN]));
    };
    const summary = make("summary", {}, find(`group.${name}`) ?? words(name), make("span", { className: "count" }));
    group.append(summary, ...directions.map((direction) => this.#slider(direction)));
    return group;
  }

  #slider(direction) {
    const { name, range: [low, high], ends, note } = direction;
    const id = `edit-${name}`;
    const input = make("input", { type: "range", id, min: low, max: high, step: (high - low) / 200, value: 0 });
    input.dataset.edit = name;
    if (note) input.title = note;
    const row = make("div", { className: "row3" }, make("span", {}, ends[0]), input, make("span", {}, ends[1]));
    const output = make("output", { title: t("panel.slider.reset") });
    const dial = make("div", { className: "dial" }, make("label", { htmlFor: id }, nameOf(name)), output, row);
    const reset = () => { input.value = 0; this.#turned(input); this.change({ edits: { [name]: null } }); };
    input.oninput = () => {
      // The middle holds a little, but not keys: they go in steps that are smaller.
      if (input === this.#turning && Math.abs(input.value) < (high - low) * 0.015) input.value = 0;
      this.#turned(input);
      this.change({ edits: { [name]: Number(input.value) || null } });
    };
    input.onpointerdown = () => { this.#turning = input; };
    input.ondblclick = output.ondblclick = reset;
    return dial;
  }

  #turned(input) {
    const value = Number(input.value), low = Number(input.min), high = Number(input.max);
    const share = (number) => ((Math.min(Math.max(number, low), high) - low) / (high - low)) * 100;
    const zero = share(input.id === "blend" || input.id === "truncation" ? low : 0), at = share(value);
    input.style.setProperty("--from", `${Math.min(zero, at)}%`);
    input.style.setProperty("--to", `${Math.max(zero, at)}%`);
    const dial = input.closest(".dial");
    if (input.dataset.edit) {
      const direction = this.#state.bundle.directions.find(({ name }) => name === input.dataset.edit);
      const most = Math.max(Math.abs(low), Math.abs(high));
      dial.querySelector("output").value = value === 0 ? "" : `${value > 0 ? "+" : "−"}${Math.round((Math.abs(value) / most) * 100)}`;
      const end = value === 0 ? "0" : `${Math.round((Math.abs(value) / most) * 100)} % ${direction.ends[value > 0 ? 1 : 0]}`;
      input.setAttribute("aria-valuetext", end);
      dial.classList.toggle("on", value !== 0);
    } else if (input.id === "toward") {
      const text = this.#steps.length > 1 ? `${Math.round((value / high) * 100)} %` : "–";
      dial.querySelector("output").value = text;
      input.setAttribute("aria-valuetext", text);
      dial.classList.toggle("on", value > 0);
    } else {
      const text = `${Math.round(value * 100)} %`;
      dial.querySelector("output").value = text;
      input.setAttribute("aria-valuetext", text);
      dial.classList.toggle("on", value !== 1);
    }
  }

  #dial(id, changes, plain) {
    const input = $(id);
    input.oninput = () => { this.#turned(input); this.change(changes(Number(input.value))); };
    input.onpointerdown = () => { this.#turning = input; };
    input.ondblclick = $(`${id}-out`).ondblclick = () => { input.value = plain; input.oninput(); };
  }

  #fill({ controls, can_undo, can_redo, bundle, composite }) {
    $("undo").disabled = !can_undo;
    $("redo").disabled = !can_redo;
    $("bundle").value = controls.bundle;
    const style = ledTo(bundle.dials, controls.style);
    check($("styles"), style);
    if (bundle.dials[style].length > 1) this.#toward(bundle.dials, style);
    check($("modes"), composite);
    const set = (input, value) => {
      if (input !== this.#turning) input.value = value;
      this.#turned(input);
    };
    for (const { name } of bundle.directions) {
      const input = $(`edit-${name}`);
      if (input && !(this.#pending.edits && name in this.#pending.edits)) set(input, controls.edits[name] ?? 0);
    }
    set($("toward"), Math.max(this.#steps.indexOf(controls.style), 0));
    set($("blend"), controls.blend);
    set($("truncation"), controls.truncation);
    $("lock").checked = controls.identity_lock;
    $("badge").value = controls.badge;
    $("faces").value = controls.max_faces;
    for (const group of $("groups").children) {
      const count = group.querySelectorAll(".dial.on").length;
      group.querySelector(".count").textContent = count || "";
    }
    if (document.activeElement !== $("text")) $("text").value = asText(controls);
  }

  #typed() {
    const { controls, bundle } = this.#state;
    const known = new Map(bundle.directions.map((one) => [one.name, one]));
    const changes = { edits: Object.fromEntries(Object.keys(controls.edits).map((name) => [name, null])) };
    for (const word of $("text").value.split(/\s+/).filter((part) => part && !/^(-e|--edit)$/.test(part))) {
      const [name, value, ...rest] = word.split("=");
      if (rest.length || !known.has(name) || !Number.isFinite(Number(value)) || value === "") {
        this.#fail(new Error(`${word}: expected NAME=NUMBER, e.g. ${[...known.keys()][0] ?? "age"}=0.5`));
        return;
      }
      changes.edits[name] = Number(value);
    }
    this.change(changes);
  }

  #presets(names) {
    const add = make("button", { type: "button", title: t("panel.save") }, icon("i-plus"));
    add.setAttribute("aria-label", t("panel.save"));
    add.onclick = () => { $("save-name").value = ""; this.#nameSave(); $("save-dialog").showModal(); };
    const tiles = names.map((name, index) => {
      const path = `/api/presets/${encodeURIComponent(name)}`;
      const image = make("img", { src: `${path}/picture?${this.#state.version}`, alt: "", loading: "lazy" });
      const button = make("button", { type: "button", title: index < 9 ? `${name} (${index + 1})` : name }, image);
      image.onerror = () => button.replaceChildren(name[0].toUpperCase());
      button.setAttribute("aria-label", t("panel.preset.apply", { name }));
      button.onclick = () => this.post(path);
      const away = make("button", { type: "button", className: "away" }, icon("i-cross"));
      away.setAttribute("aria-label", t("panel.preset.delete", { name }));
      away.onclick = () => call("DELETE", path).catch(this.#fail);
      const label = make("span", {}, name);
      label.setAttribute("aria-hidden", "true");
      return make("div", { className: "tile" }, button, away, label);
    });
    const hint = names.length ? [] : [make("p", {}, t("panel.preset.none"))];
    $("presets").replaceChildren(make("div", { className: "tile" }, add), ...hint, ...tiles);
  }

  /** Whoever types a name that there is sees that the look of that name goes. */
  #nameSave() {
    const taken = this.#state.presets.includes($("save-name").value.trim());
    $("save-do").textContent = t(taken ? "panel.save.replace" : "panel.save.do");
  }

  async #save(name) {
    try { await call("PUT", `/api/presets/${encodeURIComponent(name)}`, {}); } catch (error) { this.#fail(error); }
  }
}

const styleName = (style) => find(`style.${style}`) ?? words(style);
/** The style that `style` is, or is a step to. */
const ledTo = (dials, style) => Object.keys(dials).find((end) => end === style || dials[end].slice(1).includes(style)) ?? style;
const asText = ({ edits }) => Object.entries(edits).map(([name, value]) => `-e ${name}=${Number(value.toFixed(3))}`).join(" ");

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${id}`);
  svg.setAttribute("viewBox", "0 0 24 24"); // as large as it is made
  svg.append(use);
  return svg;
}

function segments(fieldset, values, name, text, hint, chosen) {
  fieldset.hidden = values.length < 2;
  fieldset.querySelector("div").replaceChildren(...values.map((value) => {
    const input = make("input", { type: "radio", name, value });
    input.onchange = () => chosen(value);
    return make("label", { title: hint(value) }, input, text(value));
  }));
}

const check = (fieldset, value) => {
  for (const input of fieldset.querySelectorAll("input")) input.checked = input.value === value;
};
