// What the health endpoints say about the service.

import { ConnectionLost, call } from "./api.js";
import { attempt, copyOf } from "./lists.js";
import { $, drawIcon, formatTime, t } from "./page.js";

function add(icon, title, text) {
  const row = copyOf("check");
  row.querySelector("h3").textContent = title;
  row.querySelector("p").textContent = text;
  drawIcon(row, icon);
  $("checks").append(row);
}

/** Ask both endpoints, and show the answers. Throws `ConnectionLost`. */
async function check() {
  const [alive, ready] = await Promise.all(["healthz", "readyz"].map((path) => call("GET", path)));
  // nginx answers for a process that does not run.
  if (!("status" in alive.answer || "detail" in alive.answer)) throw new ConnectionLost();
  $("checks").replaceChildren();
  add(alive.ok ? "good" : "alert", t("health_process"), alive.ok ? t("health_running") : alive.answer.detail);
  add(ready.ok ? "good" : "alert", t("health_database"), ready.ok ? t("health_ready") : ready.answer.detail);
  if (!ready.ok) return;
  const { creating, dump } = ready.answer;
  add(creating ? "alert" : "good", t("health_storage"), t(creating ? "health_paused" : "health_accepting"));
  if (dump) add("alert", t("health_dump"), t("health_behind", { time: formatTime(dump.since), reason: dump.reason }));
}

$("check-again").addEventListener("click", ({ target }) => attempt(target, check));

/** Show the health of the service. */
export const show = check;
