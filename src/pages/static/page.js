// What the views have in common: texts, sections, times, copying.

const strings = JSON.parse(document.getElementById("strings").textContent);
const language = document.documentElement.lang;
const plurals = new Intl.PluralRules(language);
// Of several ways to write times in this language, the one of its reader.
const locale = navigator.languages.find((one) => one.split("-")[0] === language) ?? language;
const moments = new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "medium" });

export const $ = (id) => document.getElementById(id);

/** Return a text in the page's language, with what stands in its braces filled in; `n` chooses the plural form. */
export function t(key, values = {}) {
  const form = "n" in values ? strings[`${key}_${plurals.select(values.n)}`] ?? strings[`${key}_other`] : strings[key];
  return form.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Return a time of the API as it is written here. */
export const moment = (text) => moments.format(new Date(text));

/** Show one section in place of the others, and let whoever cannot see it know. */
export function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  $(id).focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** Take back what the page says of encrypting here, where that is not done. */
export function disclaim() {
  for (const one of document.querySelectorAll("[data-encrypted]")) one.hidden = true;
}

/** Show what has happened and what to do; `retry` is what the button does, if there is one. */
export function notice(key, values, retry) {
  $("notice-title").textContent = t(`${key}_title`, values);
  $("notice-text").textContent = t(`${key}_text`, values);
  $("notice-next").textContent = t(`${key}_next`, values);
  $("retry").hidden = !retry;
  $("retry").onclick = retry ?? null;
  show("notice");
}

/** Do what takes a while: say so, and let the button not ask for it twice. */
export async function working(button, work) {
  button.disabled = true;
  $("said").textContent = t("working");
  try {
    await work();
  } finally {
    button.disabled = false;
    $("said").textContent = "";
  }
}

/** Let a button copy a text, and say so. */
export function copies(button, text) {
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
    // Over plain HTTP there is no such clipboard.
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

/** Let a button show and hide what is typed into a field. */
export function reveals(button, field) {
  button.addEventListener("click", () => {
    const hidden = field.type === "text";
    field.type = hidden ? "password" : "text";
    button.textContent = t(hidden ? "show" : "hide");
    button.setAttribute("aria-pressed", String(!hidden));
  });
}

/** Call once a time has come, however far it is. */
export function at(time, act) {
  const left = new Date(time) - Date.now();
  // A timer holds no more than 24 days.
  setTimeout(() => (left > 1e9 ? at(time, act) : act()), Math.max(0, Math.min(left, 1e9)));
}
