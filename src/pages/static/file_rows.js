// The rows of a secret's files: name, size, state and progress of each, and a button that downloads it.

import { ConnectionLost } from "./api.js";
import { Cancelled, Damaged, Download, HoldOver } from "./downloads.js";
import { NotOpened } from "./envelope.js";
import { element } from "./elements.js";
import { formatBytes } from "./file_display.js";
import { safeName, shownName } from "./file_names.js";
import { openWithFiles } from "./files_envelope.js";
import { $, t } from "./page.js";
import { chooseFolder, chooseSink } from "./sinks.js";

// The texts of errors after which a download can only begin again.
const FAILURES = [[NotOpened, "file_altered"], [Damaged, "damaged_text"], [Error, "file_unsaved"]];
let rows = [];
// Whether the server no longer has the files for this reader.
let isOver = false;
let onProgress;
let onHoldOver;

class Row {
  constructor(source, number) {
    const [title, label] = [`file-${number}`, `download-${number}`];
    this.source = source;
    this.title = shownName(source.name, number);
    this.fileName = safeName(source.name, number);
    this.size = formatBytes(source.size);
    this.isSaved = false;
    // The controller of a running download, and a download that has begun.
    this.running = null;
    this.download = null;
    this.state = element("p", { class: "hint" });
    this.progress = element("progress", { max: source.sealed || 1, "aria-labelledby": title });
    this.button = element("button", { type: "button", id: label, "aria-labelledby": `${label} ${title}` });
    this.button.addEventListener("click", () => (this.running ? this.running.abort() : this.start()));
    const name = element("bdi", { id: title, translate: "no", class: "notranslate" }, this.title);
    this.item = element("li", {}, element("div", {}, name, this.state, this.progress), this.button);
    this.show("download");
  }

  show(label, state = this.size) {
    this.button.textContent = t(label);
    this.button.hidden = isOver;
    this.progress.classList.toggle("unready", !this.running);
    this.state.textContent = state;
  }

  /** Download the file, or the rest of it; return whether the next file can follow. The picker needs a click. */
  async start(folder) {
    this.running = new AbortController();
    const sink = this.download?.sink ?? (await chooseSink(this.fileName, folder));
    if (sink) {
      this.download ??= new Download(this.source, sink);
      this.progress.value = this.download.done;
      this.show("cancel", t("working"));
    }
    const { label, state, goesOn } = sink ? await this.run() : {};
    this.running = null;
    if (!label) return false;
    this.show(label, state);
    $("said").textContent = `${this.title}: ${this.state.textContent}`;
    return goesOn;
  }

  /** Run the download; return the label of the button and the state that follow, and whether the next file can follow. */
  async run() {
    try {
      await this.download.run(this.running.signal, (bytes) => this.showProgress(bytes));
    } catch (error) {
      return this.fail(error);
    }
    this.download = null;
    this.isSaved = true;
    return { label: "download", state: this.describe("file_saved"), goesOn: true };
  }

  showProgress(bytes) {
    onProgress();
    this.progress.value = bytes;
    this.state.textContent = t("file_progress", { done: formatBytes(Math.min(bytes, this.source.size)), size: this.size });
  }

  async fail(error) {
    if (error instanceof ConnectionLost) return { label: "continue", state: t("file_lost"), goesOn: false };
    await this.drop();
    if (error instanceof HoldOver) onHoldOver();
    if (isOver) return { label: "download", state: this.describe("file_over"), goesOn: false };
    if (error instanceof Cancelled) return { label: "download", goesOn: false };
    return { label: "download", state: t(FAILURES.find(([kind]) => error instanceof kind)[1]), goesOn: true };
  }

  /** Discard an unfinished download. */
  async drop() {
    const { sink } = this.download ?? {};
    this.download = null;
    // Rejected if the sink itself has failed.
    await Promise.resolve(sink?.abort()).catch(() => {});
  }

  describe(state) {
    return `${this.size} · ${t(state)}`;
  }

  /** Show that the server no longer has the file. */
  end() {
    if (this.running) return this.running.abort();
    this.drop();
    this.show("download", this.describe(this.isSaved ? "file_saved" : "file_over"));
  }
}

/** Download all files that are not saved yet, one after the other. */
async function downloadAll({ target }) {
  const folder = await chooseFolder();
  if (folder === null) return;
  target.disabled = true;
  for (const row of rows) {
    if (!row.running && !row.isSaved && !isOver && !(await row.start(folder))) break;
  }
  target.disabled = false;
}

/** Open the answer to an opening; return `text` and `files`. `keys` are null if the server decrypts. Throws `NotOpened`. */
export async function openFiles({ secret, files }, keys) {
  if (!keys) return { text: secret, files };
  return openWithFiles(secret, keys, files.map(({ size }) => size));
}

/** Show the rows of opened files. `listed` are those of the answer, and `path` is the secret's. */
export function showFiles({ text, files }, listed, { path, reader, ...callbacks }) {
  ({ onProgress, onHoldOver } = callbacks);
  const source = ({ id, size: sealed }, at) => ({ path: `${path}/files/${id}`, reader, sealed, key: null, name: "", ...files[at] });
  rows = listed.map((file, at) => new Row(source(file, at), at + 1));
  clearList();
  $("text").parentElement.after(element("ul", { id: "files", role: "list" }, ...rows.map(({ item }) => item)));
  if (rows.length < 2) return;
  const all = element("button", { type: "button", id: "download-all", class: text ? "" : "primary" }, t("download_all"));
  all.addEventListener("click", downloadAll);
  $("copy").before(all);
}

export { formatBytes };

export const isRunning = () => rows.some(({ running }) => running);

/** Whether leaving would lose a file that can still be downloaded. */
export const isUnfinished = () => isRunning() || (!isOver && rows.some(({ isSaved }) => !isSaved));

/** Stop the downloads: the server no longer has the files for this reader. */
export function endFiles() {
  isOver = true;
  for (const row of rows) row.end();
  if ($("download-all")) $("download-all").hidden = true;
}

/** Forget the files and their names. */
export function clearFiles() {
  for (const { running } of rows) running?.abort();
  rows = [];
  clearList();
}

function clearList() {
  for (const id of ["files", "download-all"]) $(id)?.remove();
}
