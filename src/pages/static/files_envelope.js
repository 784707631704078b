// The envelope of a secret with files: its text, and the name, type, size and key of each file.

import { readBase64, writeBase64 } from "./bytes.js";
import { FILES, NotOpened, openText, sealText } from "./envelope.js";
import { sealedSize } from "./segments.js";

const KEY = 32;

/** Seal a text and files, each with `name`, `type`, `size` and `key`, in the order in which the server knows them. */
export function sealWithFiles(text, files, keys, nonce) {
  const listed = files.map(({ name, type, size, key }) => ({ name, type, size, key: writeBase64(key) }));
  return sealText(JSON.stringify({ text, files: listed }), keys, FILES, nonce);
}

/**
 * Open the envelope of a secret whose files have `sizes` at the server, in bytes as they were uploaded; return `text`
 * and `files`. Names are those that the sender gave: any text. Throws `NotOpened`, also if the files are not those.
 */
export async function openWithFiles(envelope, keys, sizes) {
  const opened = await openText(envelope, keys, FILES);
  try {
    return read(JSON.parse(opened), sizes);
  } catch {
    throw new NotOpened();
  }
}

function read({ text, files }, sizes) {
  if (typeof text !== "string" || files.length !== sizes.length) throw new NotOpened();
  return { text, files: files.map((file, at) => readFile(file, sizes[at])) };
}

function readFile({ name, type, size, key: written }, uploaded) {
  const key = readBase64(written);
  const isWhole = typeof name === "string" && typeof type === "string" && Number.isSafeInteger(size) && size >= 0;
  if (!isWhole || key?.length !== KEY || sealedSize(size) !== uploaded) throw new NotOpened();
  return { name, type, size, key };
}
