// Encryption of a file's content in segments, as in the STREAM construction of age.
// src/client/segments.py implements the same format; docs/security.md specifies it, with test vectors.

import { NotOpened } from "./envelope.js";
import { join } from "./bytes.js";

const KEY = 32;
const TAG = 16;

/** Bytes of content in each segment but the last, which may have fewer. An empty file has one empty segment. */
export const SEGMENT = 65536;

/** Bytes of a full segment when it is sealed. */
export const SEALED_SEGMENT = SEGMENT + TAG;

/** Return the number of segments of a content of `size` bytes. */
export const countSegments = (size) => Math.max(1, Math.ceil(size / SEGMENT));

/** Return the size of a content of `size` bytes when it is sealed. */
export const sealedSize = (size) => size + TAG * countSegments(size);

/** Return a key for one content: the nonce of a segment is its position, so a second content would repeat nonces. */
export const newFileKey = () => crypto.getRandomValues(new Uint8Array(KEY));

export const importFileKey = (key) => crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]);

function cipher(index, size) {
  const iv = new Uint8Array(12);
  new DataView(iv.buffer).setUint32(7, index);
  iv[11] = Number(index === countSegments(size) - 1);
  return { name: "AES-GCM", iv };
}

/** Split bytes into segments of `length` bytes, and apply `work` to each, with its index; return the joined results. */
async function mapSegments(bytes, length, first, work) {
  const parts = Array.from({ length: Math.max(1, Math.ceil(bytes.length / length)) }, (_, at) =>
    work(bytes.subarray(at * length, (at + 1) * length), first + at)
  );
  return join(...(await Promise.all(parts)).map((part) => new Uint8Array(part)));
}

/** Seal consecutive segments of a content of `size` bytes; `first` is the index of the first. */
export const sealSegments = (key, size, first, content) =>
  mapSegments(content, SEGMENT, first, (part, index) => crypto.subtle.encrypt(cipher(index, size), key, part));

/** Open consecutive sealed segments, each whole. Throws `NotOpened` if one is altered, or belongs elsewhere. */
export async function openSegments(key, size, first, sealed) {
  let content;
  try {
    content = await mapSegments(sealed, SEALED_SEGMENT, first, (part, index) => crypto.subtle.decrypt(cipher(index, size), key, part));
  } catch (error) {
    throw error.name === "OperationError" ? new NotOpened() : error;
  }
  const end = Math.min(size, first * SEGMENT + Math.ceil(sealed.length / SEALED_SEGMENT) * SEGMENT);
  if (content.length !== end - first * SEGMENT) throw new NotOpened();
  return content;
}
