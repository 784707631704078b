// Shared by all views: texts, sections, times and copying.

import { timeUntil } from "./clock.js";

const strings = JSON.parse(document.getElementById("strings").textContent);
const language = document.documentElement.lang;
const plurals = new Intl.PluralRules(language);
// The user's own variant of the page's language, such as de-CH for a page in German.
const locale = navigator.languages.find((candidate) => candidate.split("-")[0] === language) ?? language;
const timeFormat = new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "long" });
const LAST_HOUR_SECONDS = 3600;

export const $ = (id) => document.getElementById(id);

/** Return a text in the page's language with its placeholders filled in; `n` selects the plural form. */
export function t(key, values = {}) {
  const form = "n" in values ? strings[`${key}_${plurals.select(values.n)}`] ?? strings[`${key}_other`] : strings[key];
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Format a timestamp of the API for the user, with the time zone. */
export const formatTime = (text) => timeFormat.format(new Date(text));

/** Like `formatTime`, with the remaining time in the last hour: in minutes, then in seconds. */
export function formatExpiry(text) {
  const time = formatTime(text);
  const seconds = Math.floor(timeUntil(text) / 1000);
  if (seconds < 0 || seconds >= LAST_HOUR_SECONDS) return time;
  const [number, unit] = seconds < 60 ? [seconds, "second"] : [Math.floor(seconds / 60), "minute"];
  const left = new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "long" }).format(number);
  return t("time_left", { time, left });
}

/** Show one section in place of the others, and focus it for screen readers. */
export function showSection(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  $(id).focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Start a view. If that fails, this browser lacks a function: show which browsers work, in place of the view. */
export async function startView(start) {
  const notice = $("unsupported");
  notice.hidden = true;
  notice.classList.remove("late");
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
  $("retry").hidden = !retry;
  $("retry").onclick = retry ?? null;
  showSection("notice");
}

/** Run a slow task with its button disabled, and announce it to screen readers. */
export async function runBusy(button, work) {
  button.disabled = true;
  $("said").textContent = t("working");
  try {
    await work();
  } finally {
    button.disabled = false;
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
