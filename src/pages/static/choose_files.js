// Files that the user chooses, drops on the page or pastes.

import { $ } from "./page.js";

const form = $("form");
const chosen = $("chosen");

// Inert while the link is created.
const isShown = () => !$("write").hidden && !form.inert;
const hasFiles = ({ dataTransfer }) => isShown() && dataTransfer.types.includes("Files");
const named = (files) => [...files].map((file) => ({ file, name: file.name }));

const call = (object, method) => new Promise((resolve, reject) => object[method](resolve, reject));

/** Return the files of a folder, and of those in it, named by their paths. */
async function readFolder(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    // At most 100 at a time.
    const entries = await call(reader, "readEntries");
    if (!entries.length) return found;
    for (const entry of entries) found.push(...(await readEntry(entry)));
  }
}

async function readEntry(entry) {
  if (entry.isDirectory) return readFolder(entry);
  return [{ file: await call(entry, "file"), name: entry.fullPath.slice(1) }];
}

/** Return the dropped files. Must be called in the event: afterwards, the browser has forgotten them. */
function droppedFiles({ items, files }) {
  const entries = [...items].map((item) => item.webkitGetAsEntry?.());
  const folders = entries.filter((entry) => entry?.isDirectory);
  if (!folders.length) return Promise.resolve(named(files));
  return Promise.all(entries.filter(Boolean).map(readEntry)).then((found) => found.flat());
}

/** Office programs copy a text also as a picture: only the text is pasted. */
const isText = ({ types }) => types.includes("text/plain") && types.includes("text/html");

/** Open the browser's dialog for choosing files. */
export const showChooser = () => chosen.click();

/** Call `add` with each choice of files: a promise of an array of `file` and `name`. */
export function onFiles(add) {
  $("attach").addEventListener("click", showChooser);
  chosen.addEventListener("change", () => {
    const files = named(chosen.files);
    // The same file can be chosen again.
    chosen.value = "";
    add(Promise.resolve(files));
  });
  addEventListener("paste", (event) => {
    const { clipboardData } = event;
    if (!isShown() || !clipboardData.files.length || isText(clipboardData)) return;
    event.preventDefault();
    add(Promise.resolve(named(clipboardData.files)));
  });
  for (const type of ["dragenter", "dragover"]) {
    addEventListener(type, (event) => {
      if (!hasFiles(event)) return;
      // Without this, the browser would leave the page to show the file.
      event.preventDefault();
      form.classList.add("target");
    });
  }
  addEventListener("dragleave", ({ relatedTarget }) => relatedTarget ?? form.classList.remove("target"));
  addEventListener("drop", (event) => {
    form.classList.remove("target");
    if (!hasFiles(event)) return;
    event.preventDefault();
    add(droppedFiles(event.dataTransfer));
  });
}
