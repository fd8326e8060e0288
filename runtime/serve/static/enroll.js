// Enrollment: a picture in, a bundle out, by the server's own command; watched while it works.
import { call } from "./api.js";
import { t } from "./texts.js";

const $ = (id) => document.getElementById(id);
let picture = null, timer = 0, tools = null;

export async function open(given) {
  tools = given;
  $("enroll-choose").onclick = () => $("enroll-file").click();
  $("enroll-file").onchange = () => choose($("enroll-file").files[0]);
  $("enroll-camera").onclick = async () => {
    try { choose(await call("GET", "/api/snapshot.png?what=before")); } catch (error) { tools.fail(error); }
  };
  $("enroll-form").onsubmit = (event) => { event.preventDefault(); start(); };
  $("enroll-stop").onclick = () => call("DELETE", "/api/enrollment").catch(tools.fail);
  await watch();
}

function choose(blob) {
  if (!blob) return;
  picture = blob;
  $("enroll-picture").src = URL.createObjectURL(blob);
  $("enroll-picture").hidden = false;
}

async function start() {
  if (!picture) { tools.fail(new Error(t("enroll.nopicture"))); $("enroll-choose").focus(); return; }
  try {
    const { id } = await call("POST", "/api/pictures", picture);
    await call("POST", "/api/enrollment", { picture: id, name: $("enroll-name").value, consent: $("enroll-consent").checked });
    watch();
  } catch (error) { tools.fail(error); }
}

async function watch() {
  clearTimeout(timer);
  let job;
  try { job = await call("GET", "/api/enrollment"); } catch (error) { tools.fail(error); return; }
  $("enroll-absent").hidden = job.available;
  $("enroll-form").hidden = !job.available || job.running;
  $("enroll-run").hidden = !job.running && !job.line;
  $("enroll-stop").hidden = !job.running;
  $("enroll-line").textContent = job.done ? t("enroll.done", { name: job.name }) : job.failure ? t("enroll.failed", { reason: job.failure }) : job.line ?? "";
  if (job.picture) $("enroll-progress").src = `/api/enrollment/picture?${job.picture}`;
  if (job.running) timer = setTimeout(watch, 1000);
}
