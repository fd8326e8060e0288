// The HTTP interface (/api/openapi.json); the page uses nothing else beside the live socket.
import { t } from "./texts.js";

export class Refused extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

export async function call(method, path, body) {
  const options = { method, headers: {} };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(0, t("error.server"));
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => null);
    throw new Refused(answer.status, answer.status === 401 ? t("error.login") : problem?.error ?? `${answer.status}`);
  }
  if (answer.status === 204) return null;
  return answer.headers.get("content-type")?.startsWith("application/json") ? answer.json() : answer.blob();
}

/** Give a file to the user. */
export function save(what, name) {
  const link = document.createElement("a");
  link.href = typeof what === "string" ? what : URL.createObjectURL(what);
  link.download = name;
  link.click();
  if (typeof what !== "string") setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
