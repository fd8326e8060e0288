// Wires everything together.
import { call, save } from "./api.js";
import { drawLayer } from "./layer.js";
import { Live } from "./live.js";
import { Meter } from "./meter.js";
import { Panel, make } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Microphone } from "./sound.js";
import { fill, t } from "./texts.js";

const $ = (id) => document.getElementById(id);
fill();

// --- what is remembered ---
const memory = {
  get: (key, otherwise) => localStorage.getItem(`doppelgan.${key}`) ?? otherwise,
  set: (key, value) => localStorage.setItem(`doppelgan.${key}`, value),
};
const dark = matchMedia("(prefers-color-scheme: dark)");
const setTheme = () => { document.documentElement.dataset.theme = memory.get("theme", dark.matches ? "dark" : "light"); };
setTheme();
dark.addEventListener("change", setTheme);
$("theme").onclick = () => { memory.set("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark"); setTheme(); };

// --- notes ---
let toastTimer = 0;
function note(text, bad = false) {
  const toast = $("toast");
  toast.textContent = text;
  toast.classList.toggle("bad", bad);
  clearTimeout(toastTimer);
  if (toast.matches(":popover-open")) toast.hidePopover(); // once more, so that it lies above a dialog that opened meanwhile
  if (!text) return;
  toast.showPopover();
  toastTimer = setTimeout(note, bad ? 7000 : 3500, "");
}
const fail = (error) => note(t("error.failed", { reason: error.message }), true);

const panel = new Panel(fail);
const meter = new Meter();
const pictures = new Pictures(fail);
const live = new Live($("after"), $("before"));
const microphone = new Microphone();
let status = null, online = false, recording = null, mine = false;
let listed = ""; // whose picture it is, as the list of cameras says

// --- views ---
const TABS = ["live", "pictures", "enroll"];
function view(name) {
  for (const tab of TABS) {
    $(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
    $(`view-${tab}`).hidden = tab !== name;
  }
  live.want({ results: name === "live" });
  if (name === "pictures") pictures.load();
  if (name === "enroll") import("./enroll.js").then(({ open }) => open({ fail, panel }));
}
for (const tab of TABS) {
  $(`tab-${tab}`).onclick = () => view(tab);
  $(`tab-${tab}`).onkeydown = ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
    view(next);
    $(`tab-${next}`).focus();
  };
}

// --- the live picture ---
function showState() {
  const source = panel.state?.source;
  const state = !online ? "offline" : !source ? "idle" : status?.state ?? "stale";
  if ($("state").dataset.state !== state) {
    $("state").dataset.state = state;
    $("state").textContent = t(`state.${state}`);
  }
  $("welcome").hidden = live.wanted || Boolean(source);
  const other = Boolean(source) && !mine;
  if (listed !== (other ? source : "")) listCameras();
  $("stop").hidden = !live.running;
  const choice = other ? "@server" : live.device ?? memory.get("camera", "");
  $("camera").value = choice;
  if ($("camera").selectedIndex < 0) $("camera").selectedIndex = 0;
}

live.addEventListener("online", ({ detail }) => {
  if (online && !detail.online) note(t("error.server"), true);
  if (!online && detail.online) { note(""); live.want(wants()); }
  online = detail.online;
  if (!online) {
    mine = false;
    // A socket's refusal carries no reason; a request does.
    call("GET", "/api/state").catch((error) => error.status === 401 && note(error.message, true));
  }
  showState();
});
live.addEventListener("controls", ({ detail }) => {
  panel.show(detail);
  pictures.refresh(detail.version);
  if (detail.recording !== recording) { recording = detail.recording; showRecording(); }
  showState();
});
live.addEventListener("status", ({ detail }) => {
  const failure = detail.failure;
  if (failure && failure !== status?.failure) note(failure, true);
  status = detail;
  mine = detail.yours || live.overRtc;
  meter.status(detail);
  if (detail.recording) $("rec").textContent = `REC ${time(detail.recording.seconds)}`;
  showState();
});
live.addEventListener("seat", ({ detail }) => {
  mine = detail.yours;
  if (!mine && live.running && !live.overRtc) live.stop();
  showState();
});
live.addEventListener("error", ({ detail }) => detail.text && note(detail.text, true));
live.addEventListener("way", ({ detail }) => { $("way").title = `${t(`way.${detail.up}`)} / ${t(`way.${detail.down}`)}`; });
live.addEventListener("shown", ({ detail }) => {
  meter.shown(detail);
  $("stage").classList.toggle("lost", detail.state === "lost");
  const aspect = (detail.width / detail.height).toFixed(4);
  if ($("picture").dataset.aspect !== aspect) {
    $("picture").dataset.aspect = aspect;
    $("picture").style.setProperty("--aspect", aspect);
    $("picture").style.setProperty("--aspect-number", aspect);
  }
  if (tracking) drawLayer($("layer"), detail, $("stage").classList.contains("mirrored"), t(`state.${detail.faceState}`));
});
live.addEventListener("camera", ({ detail }) => {
  if (detail.lost) note(t("camera.ended"), true);
  else if (detail.running) { note(""); listCameras(); }
  showState();
});
live.addEventListener("devices", () => listCameras());

async function startCamera(device) {
  try {
    await live.start(device);
    memory.set("camera", device);
  } catch (error) {
    live.stop();
    fail(error);
    $("welcome-hint").textContent = error.message;
  }
  showState();
}
async function listCameras() {
  listed = (!mine && panel.state?.source) || "";
  const cameras = await live.cameras().catch(() => []);
  const options = cameras.map(({ id, label }, i) => new Option(label || `${t("camera.first")} ${i + 1}`, id));
  if (!options.length) options.push(new Option(t("camera.first"), ""));
  if (listed) {
    const name = listed === "page" ? t("stage.other") : listed.split(/[\\/]/).pop();
    options.push(new Option(t("camera.server", { source: name }), "@server"));
  }
  $("camera").replaceChildren(...options);
  showState();
}
$("start").onclick = () => startCamera(memory.get("camera", ""));
$("camera").onchange = () => $("camera").value !== "@server" && startCamera($("camera").value);
$("stop").onclick = () => live.stop();
const WAYS = ["auto", "raw", "h264", "jpeg", ...(window.MediaStreamTrackGenerator ? ["webrtc"] : [])];
$("way").append(...WAYS.map((way) => new Option(t(`way.${way}`), way)));
$("way").value = memory.get("way", "auto");
$("way").onchange = () => { memory.set("way", $("way").value); live.setWay($("way").value).catch(fail); };
live.setWay($("way").value);

// --- before and after ---
let comparing = false, holding = false, tracking = false;
const wants = () => ({ before: comparing || holding, mesh: tracking, results: !$("view-live").hidden });
function showLayers() {
  $("stage").classList.toggle("comparing", comparing);
  $("stage").classList.toggle("holding", holding);
  $("split-view").hidden = !comparing;
  $("compare").setAttribute("aria-pressed", String(comparing));
  $("hold").setAttribute("aria-pressed", String(holding));
  $("tracker").setAttribute("aria-pressed", String(tracking));
  $("layer").hidden = !tracking;
  live.want(wants());
}
const hold = (on) => { if (holding !== on) { holding = on; showLayers(); } };
const compare = () => { comparing = !comparing; showLayers(); };
const track = () => { tracking = !tracking; showLayers(); };
$("hold").onpointerdown = () => hold(true);
for (const name of ["pointerup", "pointerleave", "pointercancel", "blur"]) $("hold").addEventListener(name, () => hold(false));
$("hold").onkeydown = ({ key }) => ["Enter", " "].includes(key) && hold(true);
$("hold").onkeyup = () => hold(false);
$("compare").onclick = compare;
$("tracker").onclick = track;
const split = () => $("picture").style.setProperty("--split", $("split").value);
$("split").oninput = split;
split();
function mirror(on) {
  $("stage").classList.toggle("mirrored", on);
  $("mirror").setAttribute("aria-pressed", String(on));
  memory.set("mirror", on ? "1" : "");
  live.mirror(on);
}
$("mirror").onclick = () => mirror(!$("stage").classList.contains("mirrored"));
mirror(memory.get("mirror", "1") === "1");
$("full").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen?.());

// --- snapshot and recording ---
const time = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
async function snapshot() {
  try {
    save(await call("GET", `/api/snapshot.png?what=${comparing ? "both" : "after"}`), "doppelgan.png");
    note(t("snapshot.saved"));
  } catch (error) { fail(error); }
}
function showRecording() {
  $("record").setAttribute("aria-pressed", String(Boolean(recording)));
  $("record").setAttribute("aria-label", t(recording ? "tool.record.stop" : "tool.record"));
  $("rec").hidden = !recording;
  $("rec").textContent = "REC 0:00";
}
async function record() {
  try {
    if (recording) {
      microphone.stop();
      const { name } = await call("DELETE", "/api/recording");
      save(`/api/recordings/${name}`, name);
      note(t("record.saved", { name }));
      return;
    }
    if ($("sound").getAttribute("aria-pressed") === "true" && live.running) {
      await microphone.start((samples, rate, at) => live.sound(samples, rate, at)).catch(() => note(t("record.nosound")));
    }
    await call("POST", "/api/recording");
  } catch (error) { microphone.stop(); fail(error); }
}
$("snapshot").onclick = snapshot;
$("record").onclick = record;
const sound = (on) => {
  $("sound").setAttribute("aria-pressed", String(on));
  $("sound").querySelector("use").setAttribute("href", on ? "#i-mic" : "#i-mute");
  memory.set("sound", on ? "1" : "");
};
$("sound").onclick = () => sound($("sound").getAttribute("aria-pressed") !== "true");
sound(memory.get("sound", "1") === "1");

// --- keys ---
$("keys-list").append(...t("keys.list").flatMap(([key, what]) => [make("dt", {}, key), make("dd", {}, what)]));
$("help").onclick = () => $("keys").showModal();
const KEYS = {
  b: compare, t: track, m: () => $("mirror").click(), s: () => panel.nextStyle(), p: snapshot, r: record, f: () => $("full").click(),
  0: () => $("reset").click(), "?": () => $("help").click(),
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:not([type=range]):not([type=radio]):not([type=checkbox]), select, textarea");
  if (typing || document.querySelector("dialog[open]") || event.altKey) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" || key === "y") { event.preventDefault(); $(key === "y" || event.shiftKey ? "redo" : "undo").click(); }
  } else if (key === " ") {
    if (event.target.matches("button, summary, input")) return;
    event.preventDefault();
    hold(true);
  } else if (!event.repeat && key >= "1" && key <= "9") {
    panel.preset(Number(key) - 1);
  } else if (!event.repeat && KEYS[key]) {
    event.preventDefault();
    KEYS[key]();
  }
});
document.addEventListener("keyup", ({ key }) => key === " " && hold(false));

call("GET", "/api/state").then((state) => { panel.show(state); listCameras(); }).catch(fail);
listCameras();
showLayers();
Object.assign(window, { doppelgan: { live, meter, panel } });
