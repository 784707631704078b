// Shared by all views: texts, sections, times and copying.

import { ROOT } from "./api.js";
import { timeUntil } from "./clock.js";

const strings = JSON.parse(document.getElementById("strings").textContent);
const language = document.documentElement.lang;
const plurals = new Intl.PluralRules(language);
// The user's own variant of the page's language, such as de-CH for a page in German.
export const locale = navigator.languages.find((candidate) => candidate.split("-")[0] === language) ?? language;
const time = { weekday: "short", day: "numeric", month: "long", hour: "2-digit", minute: "2-digit", timeZoneName: "short" };
// Units of the remaining time: the seconds from which each is used, and those that it has.
const UNITS = [["day", 172800, 86400], ["hour", 7200, 3600], ["minute", 60, 60], ["second", 0, 1]];
// The icon of each state and notice, in a square of 24, and its color.
const ENVELOPE = "M3 5h18v14H3zm0 2 9 6 9-6";
const ICONS = {
  waiting: [ENVELOPE, "ok"],
  opened: ["m3 9 9-6 9 6v11H3zm0 1 9 6 9-6"],
  burned: ["M12 3c.5 4 5 5.5 5 11a5 5 0 0 1-10 0c0-2 .8-3.5 2-5 .3 1.5 1 2.5 2 2.5C11.5 9 10.5 6 12 3z", "wax"],
  locked: ["M5 11h14v9H5zm3 0V8a4 4 0 0 1 8 0v3", "warn"],
  expired: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 4v5l3 2", "soft"],
  gone: ["M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zm5 11.5L21 21", "soft"],
  incomplete: ["m13 6 2-2a3.5 3.5 0 0 1 5 5l-2 2m-7 7-2 2a3.5 3.5 0 0 1-5-5l2-2M8 3v3M3 8h3m10 13v-3m5-2h-3", "warn"],
  offline: ["M8 18a4.5 4.5 0 0 1-.6-9m3-2.3A6 6 0 0 1 17.5 10a4 4 0 0 1 3 6.5M3 3l18 18", "warn"],
  good: ["m4 12.5 5.5 5.5L20 7", "ok"],
  alert: ["M12 4 2.5 20h19zm0 6v4m0 3v.01", "warn"],
};
ICONS.lost = ICONS.offline;
ICONS.no_receipt = ICONS.gone;

let busy;
let switching;

export const $ = (id) => document.getElementById(id);

/** Return a text in the page's language with its placeholders filled in; `n` selects the plural form. */
export function t(key, values = {}) {
  const form = "n" in values ? strings[`${key}_${plurals.select(values.n)}`] ?? strings[`${key}_other`] : strings[key];
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function format(text, options) {
  const date = new Date(text);
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(locale, { ...time, ...options, year }).format(date);
}

/** Format a timestamp of the API for the user, with the time zone. */
export const formatTime = (text) => format(text, { second: "2-digit" });

/** Format a timestamp for a list, to the minute. */
export const formatMinute = (text) => format(text, { weekday: undefined, month: "short" });

/** Format the time when something expires, with the time zone and the remaining time. */
export function formatExpiry(text) {
  const time = format(text);
  const seconds = Math.floor(timeUntil(text) / 1000);
  if (seconds < 0) return time;
  const [unit, , size] = UNITS.find(([, least]) => seconds >= least);
  // Days and hours are rounded; minutes and seconds are not more than remain.
  const number = size > 60 ? Math.round(seconds / size) : Math.floor(seconds / size);
  const left = new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(number);
  return t("time_left", { time, left });
}

/** Draw the icon of a state or notice, in its color, in the first icon of an element. */
export function drawIcon(element, state) {
  const icon = element.querySelector(".icon");
  const [path, color = "accent"] = ICONS[state] ?? ICONS[state.split("_")[0]] ?? ICONS.alert;
  icon.style.color = `var(--${color})`;
  icon.lastElementChild.setAttribute("d", path);
}

/** Show one section in place of the others, and focus it for screen readers. */
export function showSection(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  $(id).className = "shown";
  updateMenu();
  $(id).focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Hide the menu where leaving loses something. */
function updateMenu() {
  $("languages").classList.toggle("unready", Boolean(busy || document.querySelector("#shown:not([hidden]), #result:not([hidden])")));
}

$("languages").addEventListener("click", (event) => {
  const { target } = event;
  if (!target.lang) return;
  switching = true;
  document.cookie = `lang=${target.lang}; path=${ROOT.pathname}; max-age=31536000; samesite=lax`;
  // The key, unless cookies work.
  target.hash = location.hash;
  if (!document.cookie.includes(`lang=${target.lang}`) || location.search.includes("lang=")) return;
  event.preventDefault();
  location.reload();
});
addEventListener("beforeunload", (event) => {
  const fields = [...document.querySelectorAll("textarea, input:not([readonly], [type=checkbox])")];
  if (switching && fields.some(({ value, defaultValue }) => value !== defaultValue)) event.returnValue = "edited";
});

/** Start a view. If that fails, this browser lacks a function: show which browsers work, in place of the view. */
export async function startView(start) {
  const notice = $("unsupported");
  notice.hidden = true;
  notice.classList.remove("late");
  updateMenu();
  try {
    await start();
  } catch (error) {
    for (const section of document.querySelectorAll("main > section")) section.hidden = true;
    notice.hidden = false;
    notice.focus();
    throw error;
  }
}

/** Hide the claims that the browser encrypts, for when the server does. */
export function hideEncryptionClaims() {
  for (const claim of document.querySelectorAll("[data-encrypted]")) claim.hidden = true;
}

/** Show a notice: title, explanation and next step. `retry` is called by its button, which is hidden without it. */
export function showNotice(key, values, retry) {
  $("notice-title").textContent = t(`${key}_title`, values);
  $("notice-text").textContent = t(`${key}_text`, values);
  $("notice-next").textContent = t(`${key}_next`, values);
  drawIcon($("notice"), key);
  $("retry").hidden = !retry;
  $("retry").onclick = retry ?? null;
  showSection("notice");
}

/** Run a slow task with its button disabled, and announce it to screen readers. */
export async function runBusy(button, work) {
  button.disabled = true;
  busy = true;
  updateMenu();
  $("said").textContent = t("working");
  try {
    await work();
  } finally {
    button.disabled = false;
    busy = false;
    updateMenu();
    $("said").textContent = "";
  }
}

/** Copy a text when the button is clicked, and confirm it on the button for 3 seconds. */
export function copyOnClick(button, text) {
  button.addEventListener("click", async () => {
    const label = button.dataset.label ?? (button.dataset.label = button.textContent);
    const copied = await copy(text());
    button.textContent = t(copied ? "copied" : "not_copied");
    $("said").textContent = button.textContent;
    setTimeout(() => {
      button.textContent = label;
      $("said").textContent = "";
    }, 3000);
  });
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The Clipboard API requires a secure context.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "aside";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

/** Show or hide the content of a password field when the button is clicked. */
export function toggleOnClick(button, field) {
  button.addEventListener("click", () => {
    const hidden = field.type === "text";
    field.type = hidden ? "password" : "text";
    button.textContent = t(hidden ? "show" : "hide");
    button.setAttribute("aria-pressed", String(!hidden));
  });
}
