// End-to-end encryption: the keys in a link, and the envelope that they open.
// src/client/envelopes.py implements the same format; docs/security.md specifies it, with test vectors.

import { join, readBase64, utf8, writeBase64 } from "./bytes.js";

const VERSION = 1;
const KEY = 32;
const NONCE = 12;
const TAG = 16;
const CHECK = 4;
const PADDED_TO = 64;
const ITERATIONS = 600000;
const EMPTY = new Uint8Array();

/** The formats of an envelope: that of a text, and that of a text with files. */
export const TEXT = { prefix: "sealpost-text-1.", label: "sealpost/v1/text-envelope" };
export const FILES = { prefix: "sealpost-files-1.", label: "sealpost/v1/files-envelope" };

/** Whether Web Crypto is available: browsers restrict it to HTTPS and localhost. */
export const canEncrypt = Boolean(globalThis.isSecureContext && globalThis.crypto?.subtle);

/** The envelope is malformed, or sealed with other keys. */
export class NotOpened extends Error {}

export const newFragmentKey = () => crypto.getRandomValues(new Uint8Array(KEY));

async function derive(key, label) {
  const imported = await crypto.subtle.importKey("raw", key, "HKDF", false, ["deriveBits"]);
  const parameters = { name: "HKDF", hash: "SHA-256", salt: EMPTY, info: utf8(`sealpost/v1/${label}`) };
  return new Uint8Array(await crypto.subtle.deriveBits(parameters, imported, KEY * 8));
}

/** Derive the keys of a text. The server gets `verifier` in place of the password; it is null without a password. */
export async function deriveKeys(fragmentKey, phrase, iterations = ITERATIONS) {
  let both = fragmentKey;
  let verifier = null;
  if (phrase) {
    const salt = await derive(fragmentKey, "text-salt");
    const imported = await crypto.subtle.importKey("raw", utf8(phrase.normalize("NFC")), "PBKDF2", false, ["deriveBits"]);
    const parameters = { name: "PBKDF2", hash: "SHA-256", salt, iterations };
    both = join(fragmentKey, new Uint8Array(await crypto.subtle.deriveBits(parameters, imported, KEY * 8)));
    verifier = writeBase64(await derive(both, "text-verifier"));
  }
  const dataKey = await crypto.subtle.importKey("raw", await derive(both, "text-key"), "AES-GCM", false, ["encrypt", "decrypt"]);
  const header = new Uint8Array(5);
  header[0] = VERSION;
  new DataView(header.buffer).setUint32(1, phrase ? iterations : 0);
  return { dataKey, verifier, header };
}

const cipher = (nonce, header, { label }) => ({
  name: "AES-GCM",
  iv: nonce,
  additionalData: join(utf8(label), header),
});

/** Seal a text in a base64 envelope. Only tests pass `nonce`. */
export async function sealText(text, { dataKey, header }, format = TEXT, nonce = crypto.getRandomValues(new Uint8Array(NONCE))) {
  const content = utf8(text);
  const padded = new Uint8Array(Math.ceil((content.length + 1) / PADDED_TO) * PADDED_TO);
  padded.set(content);
  padded[content.length] = 0x80;
  const sealed = new Uint8Array(await crypto.subtle.encrypt(cipher(nonce, header, format), dataKey, padded));
  return format.prefix + writeBase64(join(header, nonce, sealed));
}

/** Open an envelope; return its text. Throws `NotOpened`. */
export async function openText(envelope, { dataKey, header }, format = TEXT) {
  const raw = envelope.startsWith(format.prefix) ? readBase64(envelope.slice(format.prefix.length)) : null;
  const begin = header.length + NONCE;
  if (!raw || raw.length < begin + TAG || header.some((byte, at) => byte !== raw[at])) throw new NotOpened();
  const nonce = raw.subarray(header.length, begin);
  let padded;
  try {
    padded = new Uint8Array(await crypto.subtle.decrypt(cipher(nonce, header, format), dataKey, raw.subarray(begin)));
  } catch (error) {
    // Any other error is a failure of the browser, and not of the link.
    throw error.name === "OperationError" ? new NotOpened() : error;
  }
  try {
    let end = padded.length - 1;
    while (padded[end] === 0) end -= 1;
    if (padded[end] !== 0x80) throw new NotOpened();
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(padded.subarray(0, end));
  } finally {
    padded.fill(0);
  }
}

/** Seal and open a text. Throws if this browser lacks a function that either needs. */
export async function testEncryption() {
  // The password covers every step; 1 iteration keeps it fast.
  const keys = await deriveKeys(newFragmentKey(), "é", 1);
  if ((await openText(await sealText("☕", keys), keys)) !== "☕") throw new NotOpened();
}

async function check(both) {
  const digest = await crypto.subtle.digest("SHA-256", join(utf8("sealpost/v1/text-link"), both));
  return new Uint8Array(digest).subarray(0, CHECK);
}

/** Encode the keys of a link as its fragment. */
export async function writeFragment(linkKey, fragmentKey) {
  const both = join(readBase64(linkKey), fragmentKey);
  return VERSION + writeBase64(join(both, await check(both)));
}

/** Decode the fragment of a link; null if it was truncated or changed. */
export async function readFragment(fragment) {
  const raw = readBase64(fragment.slice(1));
  if (fragment[0] !== String(VERSION) || raw?.length !== 2 * KEY + CHECK) return null;
  const expected = await check(raw.subarray(0, 2 * KEY));
  if (expected.some((byte, at) => byte !== raw[2 * KEY + at])) return null;
  return { linkKey: writeBase64(raw.subarray(0, KEY)), fragmentKey: raw.slice(KEY, 2 * KEY) };
}
