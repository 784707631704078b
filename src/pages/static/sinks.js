// Where a download goes: a file that the reader chooses, or a Blob that the browser saves once it is complete.

// Bytes of a part of a Blob: browsers move larger Blobs out of memory.
const PART = 8388608;
// A link must keep its Blob until the browser has begun to save it.
const SAVING_MS = 60000;

/**
 * Return a sink for a file of this name, or null if the reader chooses none. `folder` is what `chooseFolder` returned;
 * without it, the browser asks for the file where it can.
 */
export async function chooseSink(name, folder) {
  if (folder === false || (!folder && !globalThis.showSaveFilePicker)) return new BlobSink(name);
  try {
    return await fileSink(await (folder ? newFile(folder, name) : showSaveFilePicker({ suggestedName: name })));
  } catch (error) {
    // With any other error, the browser does not allow it here.
    return error.name === "AbortError" ? null : new BlobSink(name);
  }
}

/** Let the reader choose a folder; return null if they choose none, and false where the browser cannot ask. */
export async function chooseFolder() {
  try {
    return (await globalThis.showDirectoryPicker?.({ mode: "readwrite" })) ?? false;
  } catch (error) {
    return error.name === "AbortError" ? null : false;
  }
}

/** Create a file; if there is one of that name, add a number to it. */
async function newFile(folder, name) {
  const [, stem, suffix] = name.match(/^(.+?)(\.[^.]*)?$/s);
  for (let number = 1; ; number += 1) {
    const candidate = number > 1 ? `${stem} (${number})${suffix ?? ""}` : name;
    try {
      await folder.getFileHandle(candidate);
    } catch (error) {
      if (error.name === "NotFoundError") return folder.getFileHandle(candidate, { create: true });
      if (error.name !== "TypeMismatchError") throw error;
    }
  }
}

/** The browser writes to a temporary file, which replaces the chosen one when it is closed. */
async function fileSink(handle) {
  const stream = await handle.createWritable();
  const abort = async () => {
    await stream.abort();
    // The file that the picker has created.
    if (!(await handle.getFile()).size) await handle.remove?.();
  };
  return { write: (content) => stream.write(content), close: () => stream.close(), abort };
}

class BlobSink {
  constructor(name) {
    this.name = name;
    this.abort();
  }

  write(content) {
    this.parts.push(content);
    this.size += content.length;
    if (this.size >= PART) this.merge();
  }

  merge() {
    this.blob = new Blob([this.blob, ...this.parts], { type: "application/octet-stream" });
    this.parts = [];
    this.size = 0;
  }

  close() {
    this.merge();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(this.blob);
    link.download = this.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), SAVING_MS);
    this.abort();
  }

  abort() {
    this.parts = [];
    this.blob = new Blob([]);
    this.size = 0;
  }
}
