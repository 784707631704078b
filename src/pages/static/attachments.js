// The files attached to a text: their list, their limits and their upload.

import { failureKey } from "./api.js";
import { showChooser } from "./choose_files.js";
import { element } from "./elements.js";
import { formatBytes } from "./file_display.js";
import { sealWithFiles } from "./files_envelope.js";
import { $, locale, t } from "./page.js";
import { forgetUnfinished, loadUnfinished } from "./unfinished.js";
import { Cancelled, Refused, Unreadable, Upload } from "./uploads.js";

const list = $("files");
const { largest, most } = $("attach").dataset;
const formatShare = new Intl.NumberFormat(locale, { style: "percent" }).format;
let rows = [];
let made = 0;
// The row whose file the user is choosing again.
let wanted = null;

const formatWait = (seconds) =>
  new Intl.NumberFormat(locale, { style: "unit", unit: seconds < 100 ? "second" : "minute", unitDisplay: "long" }).format(
    seconds < 100 ? seconds : Math.ceil(seconds / 60)
  );

class Row {
  constructor(file, name, kept) {
    made += 1;
    this.upload = new Upload(file, name, kept, () => this.update());
    this.title = element("bdi", { id: `file-${made}`, translate: "no", class: "notranslate" }, name);
    this.progress = element("progress", { max: 1, "aria-labelledby": `file-${made}` });
    this.state = element("p", { class: "hint" });
    this.again = this.button("again", "attach_again", () => {
      showChooser();
      wanted = this;
    });
    this.remove = this.button("remove", "attach_remove", () => {
      const next = this.item.nextElementSibling ?? this.item.previousElementSibling;
      this.drop();
      (next?.querySelector("button:last-child") ?? $("attach")).focus();
    });
    this.item = element("li", {}, element("div", {}, this.title, this.progress, this.state), this.again, this.remove);
    rows.push(this);
    list.append(this.item);
    list.hidden = false;
    this.update();
  }

  button(name, label, act) {
    const id = `${name}-${made}`;
    const button = element("button", { type: "button", id, "aria-labelledby": `${id} file-${made}` }, t(label));
    button.addEventListener("click", act);
    return button;
  }

  get isMissing() {
    return !this.upload.file && this.upload.state !== "done";
  }

  describe() {
    const { state, seconds, size, offset, sealed } = this.upload;
    if (this.isMissing) return t("attach_unfinished");
    if (state === "paused") return t("attach_paused");
    if (state === "busy") return t("attach_busy", { left: formatWait(seconds) });
    if (state === "done") return t("attach_done", { size: formatBytes(size) });
    if (state === "ready") return formatBytes(size);
    return t("attach_running", { share: formatShare(offset / sealed), size: formatBytes(size) });
  }

  update() {
    const { state, offset, sealed } = this.upload;
    this.progress.value = offset / sealed;
    this.progress.hidden = state === "ready" || state === "done";
    this.again.hidden = !this.isMissing;
    this.state.textContent = this.describe();
    this.item.className = state;
    // Screen readers hear of each state, and of each quarter.
    const heard = state + Math.floor((4 * offset) / sealed);
    if (state !== "ready" && heard !== this.heard) $("said").textContent = `${this.upload.name}: ${this.state.textContent}`;
    this.heard = heard;
  }

  /** Remove the row, and let the server delete what was uploaded. */
  drop() {
    rows = rows.filter((row) => row !== this);
    this.item.remove();
    list.hidden = !rows.length;
    this.upload.cancel();
  }

  problem(key) {
    return { key, values: { name: this.upload.name }, field: "attach" };
  }
}

function addOne({ file, name }) {
  const row = rows.find(({ upload }) => !upload.file && upload.isOf(file, name));
  if (row) {
    row.upload.file = file;
    row.update();
  } else if (file.size > largest) {
    return { key: "attach_too_large", values: { name, size: formatBytes(largest) }, field: "attach" };
  } else if (rows.length >= most) {
    return { key: "attach_too_many", values: { most }, field: "attach" };
  } else {
    new Row(file, name);
  }
}

/** Attach files; return the first problem if some cannot be attached. */
export function add(files) {
  const row = wanted;
  wanted = null;
  if (row?.isMissing && !files.some(({ file, name }) => row.upload.isOf(file, name))) return row.problem("attach_changed");
  const problem = files.map(addOne).find(Boolean);
  if (!problem) $("said").textContent = `${list.getAttribute("aria-label")}: ${files.map(({ name }) => name).join(", ")}`;
  return problem;
}

/** Show the uploads that an earlier load of this page did not finish. */
export function restore() {
  for (const kept of loadUnfinished()) new Row(null, kept.name, kept);
}

/** Upload what has not been uploaded; return the problem if that fails. Throws `ConnectionLost`. */
export async function uploadAll() {
  for (;;) {
    const row = rows.find(({ upload }) => upload.state !== "done");
    if (!row) return;
    if (row.isMissing) return row.problem("attach_missing");
    try {
      await row.upload.run();
    } catch (error) {
      if (error instanceof Unreadable) {
        row.drop();
        return row.problem("attach_unreadable");
      }
      if (error instanceof Refused) return refusal(error.result);
      if (!(error instanceof Cancelled)) throw error;
    }
  }
}

function refusal(result) {
  if (failureKey(result) === "unauthorized") return { key: "create_unauthorized" };
  return { key: "refused_text", values: { detail: result.answer.detail } };
}

export const isEmpty = () => !rows.length;

/** Return the keys of the uploads, for the server. */
export const uploadKeys = () => rows.map(({ upload }) => upload.uploadKey);

/** Seal a text and what is needed to open the files. */
export const seal = (text, keys) => sealWithFiles(text, rows.map(({ upload }) => upload), keys);

/** Let the next upload begin anew, because the server no longer has the files. */
export function restart() {
  for (const row of rows) {
    if (row.upload.file) row.upload.restart();
    else row.drop();
  }
}

/** Forget the files: they have been shared. */
export function clear() {
  for (const { item, upload } of rows) {
    item.remove();
    forgetUnfinished(upload.uploadKey);
  }
  rows = [];
  list.hidden = true;
}

addEventListener("beforeunload", (event) => {
  if (!rows.some(({ upload }) => upload.file)) return;
  event.preventDefault();
  event.returnValue = "files";
});
