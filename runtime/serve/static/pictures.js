// Photos: dropped in, edited at full size with the same sliders, compared, downloaded, mixed.
import { call, save } from "./api.js";
import { icon, make } from "./panel.js";
import { t } from "./texts.js";

const $ = (id) => document.getElementById(id);
const SHOWN = 1400; // px of the preview

export class Pictures {
  #list = [];
  #chosen = null;
  #other = null;
  #version = 0;
  #shown = ""; // "id@version" on the screen
  #loading = false;
  #fail;
  #view = $("view-pictures");

  constructor(fail) {
    this.#fail = fail;
    $("choose").onclick = $("add").onclick = () => $("files").click();
    $("files").onchange = () => { this.add([...$("files").files]); $("files").value = ""; };
    $("large-split").oninput = () => $("large").style.setProperty("--split", $("large-split").value);
    $("download").onclick = () => save(`/api/pictures/${this.#chosen}/after`, "doppelgan.png");
    $("remove").onclick = () => this.#remove(this.#chosen);
    $("sheet").onclick = async () => this.#work(async () => save(await call("GET", "/api/sheet.png"), "doppelgan-sheet.png"));
    $("mix").onclick = () => this.#openMix();
    $("mix-form").onsubmit = (event) => { event.preventDefault(); this.#mix(); };
    $("mix-close").onclick = () => $("mix-dialog").close();
    document.addEventListener("dragover", (event) => { event.preventDefault(); this.#view.classList.add("over"); });
    document.addEventListener("dragleave", () => this.#view.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#view.classList.remove("over");
      this.add([...event.dataTransfer.files]);
    });
    document.addEventListener("paste", (event) => this.add([...event.clipboardData.files]));
  }

  async load() {
    this.#list = await call("GET", "/api/pictures").catch(() => []);
    this.#draw();
  }

  async add(files) {
    if (!files.length) return;
    document.getElementById("tab-pictures").click();
    await this.#work(async () => {
      for (const file of files) {
        const picture = await call("POST", "/api/pictures", file);
        this.#list.push(picture);
        this.#chosen = picture.id;
      }
    });
    this.#draw();
  }

  /** The controls changed: edit again, once more if they change meanwhile. */
  async refresh(version = this.#version) {
    this.#version = version;
    if (this.#loading || this.#view.hidden || !this.#chosen) return;
    this.#loading = true;
    while (this.#chosen && this.#shown !== `${this.#chosen}@${this.#version}`) {
      const id = this.#chosen, wanted = this.#version, changed = !this.#shown.startsWith(`${id}@`);
      $("working").textContent = t("pictures.working");
      try {
        const after = await call("GET", `/api/pictures/${id}/after?size=${SHOWN}`);
        if (changed) show($("large-before"), await call("GET", `/api/pictures/${id}/before?size=${SHOWN}`));
        show($("large-after"), after);
        const number = this.#list.findIndex((one) => one.id === id) + 1;
        $("large-before").alt = t("pictures.before", { number });
        $("large-after").alt = t("pictures.after", { number });
      } catch (error) {
        const isGone = this.#chosen !== id && !this.#list.some((one) => one.id === id);
        if (isGone) continue; // taken away here meanwhile: nobody waits for it
        if (error.status === 404) { this.#list = this.#list.filter((one) => one.id !== id); this.#chosen = null; this.#draw(); }
        this.#fail(error);
      }
      this.#shown = `${id}@${wanted}`;
    }
    $("working").textContent = "";
    this.#loading = false;
  }

  #draw() {
    this.#chosen ??= this.#list[0]?.id ?? null;
    $("drop").hidden = this.#list.length > 0;
    $("gallery").hidden = !this.#list.length;
    $("mix").disabled = this.#list.length < 2;
    $("thumbs").replaceChildren(...this.#thumbs((id) => { this.#chosen = id; this.#draw(); }, "aria-current", this.#chosen));
    this.refresh();
  }

  #thumbs(choose, mark, chosen) {
    return this.#list.map(({ id }, index) => {
      const button = make("button", { type: "button" }, make("img", { src: `/api/pictures/${id}/before?size=96`, alt: "" }));
      button.setAttribute("aria-label", t("pictures.item", { number: index + 1 }));
      if (mark === "aria-checked") button.setAttribute("role", "radio");
      button.setAttribute(mark, String(id === chosen));
      button.onclick = () => choose(id);
      button.onkeydown = ({ key }) => key === "Delete" && mark === "aria-current" && this.#remove(id);
      return button;
    });
  }

  async #remove(id) {
    await call("DELETE", `/api/pictures/${id}`).catch(this.#fail);
    const at = this.#list.findIndex((one) => one.id === id);
    this.#list = this.#list.filter((one) => one.id !== id);
    if (this.#chosen === id) this.#chosen = this.#list[Math.min(at, this.#list.length - 1)]?.id ?? null;
    this.#draw();
  }

  #openMix() {
    this.#other = this.#list.find(({ id }) => id !== this.#chosen)?.id ?? null;
    const draw = () => $("mix-thumbs").replaceChildren(...this.#thumbs((id) => { this.#other = id; draw(); }, "aria-checked", this.#other));
    draw();
    $("mix-result").hidden = $("mix-save").hidden = true;
    $("mix-dialog").showModal();
  }

  async #mix() {
    await this.#work(async () => {
      const body = { first: this.#chosen, second: this.#other, weight: Number($("mix-weight").value) };
      const picture = await call("POST", "/api/mix", body);
      show($("mix-result"), picture);
      $("mix-result").hidden = $("mix-save").hidden = false;
      $("mix-save").onclick = () => save(picture, "doppelgan-mix.png");
    });
  }

  async #work(task) {
    $("working").textContent = t("pictures.working");
    try { await task(); } catch (error) { this.#fail(error); }
    $("working").textContent = "";
  }
}

function show(image, blob) {
  const old = image.src;
  image.src = URL.createObjectURL(blob);
  if (old.startsWith("blob:")) image.onload = () => URL.revokeObjectURL(old);
}

export { icon };
