// Shared by the views for signed-in users: lists that load more on demand, questions before an action, and failures.

import { ConnectionLost, failureKey } from "./api.js";
import { $, runBusy, showNotice, showSection, startView, t } from "./page.js";
import { Refused, call, requireSession } from "./session.js";

/** Send a request for the user; return the body of the response. Throws `Refused` and `ConnectionLost`. */
export async function request(method, path, body) {
  const result = await call(method, path, body);
  if (!result.ok) throw new Refused(result);
  return result.body;
}

/** Return the text that explains a failed request; throws all other errors. */
export function explain(error) {
  if (error instanceof ConnectionLost) return t("no_answer");
  if (!(error instanceof Refused)) throw error;
  const { result } = error;
  const key = failureKey(result);
  if (key === "lost") return t("no_answer");
  return key === "busy" ? t("busy") : t("refused_text", { detail: result.body.detail });
}

/**
 * Start a view for signed-in users, and return the function that starts it again. `show` prepares its section, or
 * returns false after showing a notice.
 */
export function startForUser(section, show) {
  const start = async () => {
    try {
      if ((await show(await requireSession())) !== false) showSection(section);
    } catch (error) {
      showNotice("unavailable", { detail: explain(error) }, start);
    }
  };
  startView(start);
  return start;
}

/** Return a copy of a template's element. */
export const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);

/**
 * Fill a list with its first page, and append the next ones on demand. `load` gets the place of a page, which is
 * undefined for the first, and returns its `items` and the place of the `next`, if there is one.
 */
export async function fillList(list, load, rowOf) {
  const more = $(`${list.id}-more`);
  let place;
  const append = async () => {
    const { items, next } = await load(place);
    place = next;
    list.append(...items.map(rowOf));
    more.hidden = !place;
  };
  more.hidden = true;
  list.replaceChildren();
  await append();
  more.onclick = () => {
    const last = list.lastElementChild;
    return attempt(more, async () => {
      await append();
      if (more.hidden && last.nextElementSibling) focusRow(last.nextElementSibling);
    });
  };
}

/** Focus a row of a list. */
export function focusRow(row) {
  row.tabIndex = -1;
  row.focus();
}

/** Remove a row from its list, and focus the row that takes its place. */
export function removeRow(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  const section = row.closest("section");
  row.remove();
  if (next) focusRow(next);
  else section.focus();
}

/** Run the action of a button; if it fails, show why. */
export async function attempt(button, work) {
  let problem;
  try {
    await runBusy(button, work);
  } catch (error) {
    problem = explain(error);
  }
  // A button loses the focus while it is disabled.
  if (document.activeElement === document.body) button.focus();
  if (problem) openDialog(problem, t("close"));
}

/**
 * Ask before an action; if the user confirms with the button `yes`, run it, close the dialog, and call `done`. If it
 * fails, the dialog shows why.
 */
export function ask(question, yes, work, done) {
  const button = $("question-yes");
  button.textContent = yes;
  button.onclick = async () => {
    $("question-problem").textContent = "";
    try {
      await runBusy(button, work);
    } catch (error) {
      $("question-problem").textContent = explain(error);
      return button.focus();
    }
    $("question").close();
    // Not earlier: while the dialog is open, nothing else can get the focus.
    done();
  };
  openDialog(question, t("cancel"), button);
}

function openDialog(text, no, yes) {
  $("question-text").textContent = text;
  $("question-problem").textContent = "";
  $("question-yes").hidden = !yes;
  $("question-no").textContent = no;
  $("question").showModal();
  $("question-no").focus();
}

$("question-no").addEventListener("click", () => $("question").close());
// Escape does not hide an action that is under way.
$("question").addEventListener("cancel", (event) => $("question-yes").disabled && event.preventDefault());
