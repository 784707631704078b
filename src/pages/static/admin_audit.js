// The operators' audit: who did what and when, oldest first, filtered.

import { copyOf, explain, fillList } from "./lists.js";
import { $, locale, runBusy, t } from "./page.js";
import { lines } from "./session.js";

const PAGE_ROWS = 100;
const DAY_MS = 86400000;
const KINDS = [
  "registered",
  "signed_in",
  "sign_in_failed",
  "signed_out",
  "password_changed",
  "passkey_added",
  "passkey_deleted",
  "api_token_created",
  "api_token_deleted",
  "account_deleted",
  "invited",
  "invitation_deleted",
  "user_disabled",
  "user_enabled",
  "operator_granted",
  "operator_revoked",
  "item_created",
  "item_burned",
  "item_opened",
  "item_opening_failed",
];
const METHODS = ["password", "passkey", "oidc", "code"];
const times = new Intl.DateTimeFormat(locale, { dateStyle: "short", timeStyle: "medium" });
const form = $("filter");

/** Return a time as the value of a field, which has the time zone of this device. */
function valueOf(time) {
  const local = new Date(time - new Date(time).getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 16);
}

/** Return the path of the events from a time on that match the filter. */
function pathFrom(since) {
  const until = $("until").value && new Date($("until").value).toISOString();
  const query = Object.entries({ since, until, kind: $("kind").value, user: $("user-name").value });
  return `audit?${new URLSearchParams(query.filter(([, value]) => value))}`;
}

/** Read a page of events. A place is a time, and the number of its events that earlier pages have shown. */
async function load(place = { since: $("since").value && new Date($("since").value).toISOString(), shown: 0 }) {
  const items = [];
  let { shown } = place;
  for await (const event of lines(pathFrom(place.since))) {
    if (shown && event.at === place.since) {
      shown -= 1;
      continue;
    }
    if (items.length === PAGE_ROWS) return { items, next: placeAfter(items, place) };
    items.push(event);
  }
  return { items };
}

function placeAfter(items, place) {
  const since = items.at(-1).at;
  const shown = items.filter(({ at }) => at === since).length;
  return { since, shown: shown + (since === place.since ? place.shown : 0) };
}

function rowOf(event) {
  const row = copyOf("event");
  const [time, kind, user, details] = row.querySelectorAll("time, td:not(:first-child)");
  time.textContent = times.format(new Date(event.at));
  time.dateTime = event.at;
  kind.textContent = KINDS.includes(event.kind) ? t(`event_${event.kind}`) : event.kind;
  user.textContent = event.username ?? event.user_id ?? "";
  details.textContent = [
    METHODS.includes(event.method) ? t(`method_${event.method}`) : event.method,
    event.by && t("event_by", { name: event.by_username ?? event.by }),
    event.item_id,
    event.address,
  ].filter(Boolean).join(" · ");
  return row;
}

async function fill() {
  await fillList($("events"), load, rowOf);
  const isEmpty = !$("events").children.length;
  $("events-table").hidden = isEmpty;
  $("events-none").hidden = !isEmpty;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  $("filter-problem").textContent = "";
  try {
    await runBusy($("show-events"), fill);
  } catch (error) {
    $("filter-problem").textContent = explain(error);
  }
  $("show-events").focus();
});
$("kind").append(...KINDS.map((kind) => new Option(t(`event_${kind}`), kind)));
$("since").defaultValue = valueOf(Date.now() - DAY_MS);

/** Show the events of the last day, or that there is no audit. */
export async function show() {
  form.reset();
  try {
    await fill();
  } catch (error) {
    if (error.result?.status !== 404) throw error;
    for (const id of ["filter", "events-table", "events-none"]) $(id).hidden = true;
    $("audit-off").hidden = false;
  }
}
