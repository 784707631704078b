// Encrypted uploads by tus 1.0.0, which continue after an interruption.

import { ConnectionLost, ROOT } from "./api.js";
import { readBase64, writeBase64 } from "./bytes.js";
import { SEALED_SEGMENT, SEGMENT, importFileKey, newFileKey, sealSegments, sealedSize } from "./segments.js";
import { authorization } from "./signed_in.js";
import { forgetUnfinished, keepUnfinished } from "./unfinished.js";

const TIMEOUT_MS = 60000;
// Segments in a request: from 256 KiB to 8 MiB, so that progress shows also on a slow connection.
const [FEWEST, MOST] = [4, 128];
const [FAST_MS, SLOW_MS] = [1000, 4000];
const LONGEST_PAUSE_S = 30;
// How often in a row an upload is restarted because the server does not know it.
const MOST_RESTARTS = 3;

/** The upload was cancelled. */
export class Cancelled extends Error {}

/** The file cannot be read, or is not the one that was attached. */
export class Unreadable extends Error {}

/** The server refuses the upload: `result` has the status, code and body of its response. */
export class Refused extends Error {
  constructor(result) {
    super();
    this.result = result;
  }
}

/** The server does not know the upload: it has expired, or was deleted. */
class Gone extends Error {}

/** The server accepts nothing for `seconds`. */
class Busy extends Error {
  constructor(seconds) {
    super();
    this.seconds = seconds;
  }
}

/** Send a request; return the headers and body of its response. */
async function request(method, path, signal, headers = {}, body = undefined) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const timer = setTimeout(abort, TIMEOUT_MS);
  signal.addEventListener("abort", abort);
  const options = { method, body, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer", signal: controller.signal };
  let response;
  let answer = {};
  try {
    response = await fetch(new URL(path, ROOT), { ...options, headers: { Accept: "application/json", "Tus-Resumable": "1.0.0", ...headers } });
    if (method !== "HEAD" && response.status !== 204) answer = await response.json();
  } catch {
    throw signal.aborted ? new Cancelled() : new ConnectionLost();
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
  const { ok, status } = response;
  if (ok) return { headers: response.headers, answer };
  if (status === 404) throw new Gone();
  if (status === 502 || status === 504) throw new ConnectionLost();
  // 409: another request has moved the offset.
  if ([409, 429, 503].includes(status)) throw new Busy(Number(response.headers.get("Retry-After")) || 1);
  throw new Refused({ ok, status, code: answer.code, answer });
}

/** Wait for some seconds, or until the browser has a connection again. Throws `Cancelled`. */
async function pause(seconds, signal) {
  await new Promise((resume) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resume();
    };
    const timer = setTimeout(end, seconds * 1000);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
  if (signal.aborted) throw new Cancelled();
}

/** The upload of one file; `onChange` is called after each change of its state. */
export class Upload {
  /** `file` is null for an upload of `kept` whose file has not been chosen again. */
  constructor(file, name, kept, onChange) {
    this.file = file;
    this.name = name;
    this.type = kept?.type ?? file.type;
    this.size = kept?.size ?? file.size;
    this.onChange = onChange;
    /** Bytes that the server has, of the sealed content. */
    this.offset = 0;
    this.sealed = sealedSize(this.size);
    /** ready, running, paused, busy, or done; `seconds` is how long a pause lasts. */
    this.state = kept?.done ? "done" : "ready";
    this.path = kept && `files/${kept.upload}`;
    this.key = kept && readBase64(kept.key);
    this.kept = kept;
    this.piece = null;
    this.segments = FEWEST;
    this.controller = new AbortController();
  }

  /** The key by which the server knows the upload. */
  get uploadKey() {
    return this.kept.upload;
  }

  /** Whether a file is the one of this upload, unchanged. */
  isOf(file, name) {
    const { kept } = this;
    return kept?.name === name && kept.size === file.size && kept.modified === file.lastModified;
  }

  show(state, seconds = 0) {
    this.state = state;
    this.seconds = seconds;
    this.onChange(this);
  }

  /** Upload what the server lacks, through any interruption. Throws `Cancelled`, `Unreadable` and `Refused`. */
  async run() {
    let pauses = 0;
    let restarts = 0;
    // After an interruption, only the server knows how much has arrived.
    let isSure = !this.kept;
    while (this.state !== "done") {
      try {
        if (this.state === "ready") this.show("running");
        if (!this.kept) await this.create();
        if (!isSure) await this.locate();
        isSure = true;
        this.show("running");
        while (this.offset < this.sealed) {
          await this.sendPiece();
          [pauses, restarts] = [0, 0];
        }
        this.piece = null;
        keepUnfinished((this.kept = { ...this.kept, done: true }));
        this.show("done");
      } catch (error) {
        isSure = false;
        if (error instanceof Gone && restarts < MOST_RESTARTS) {
          restarts += 1;
          isSure = true;
          this.restart();
        } else if (error instanceof Busy) {
          await this.pause("busy", error.seconds);
        } else if (error instanceof ConnectionLost) {
          await this.pause("paused", Math.min(2 ** pauses, LONGEST_PAUSE_S));
          pauses += 1;
        } else {
          this.show("ready");
          throw error instanceof Gone ? new ConnectionLost() : error;
        }
      }
    }
  }

  async pause(state, seconds) {
    this.segments = Math.max(FEWEST, this.segments / 2);
    this.show(state, seconds);
    await pause(seconds, this.controller.signal);
  }

  async create() {
    this.key = newFileKey();
    const { name, type, size, file } = this;
    const answer = await this.post(await authorization());
    this.path = `files/${answer.upload}`;
    this.kept = { upload: answer.upload, expires: answer.expires_at, key: writeBase64(this.key), name, type, size, modified: file.lastModified };
    keepUnfinished(this.kept);
  }

  /** Create the upload as the user who is signed in; return the body of the response. */
  async post(header, mayRepeat = true) {
    const { signal } = this.controller;
    try {
      return (await request("POST", "files", signal, { "Upload-Length": String(this.sealed), ...header })).answer;
    } catch (error) {
      if (!(mayRepeat && header.Authorization && error instanceof Refused && error.result.status === 401)) throw error;
      return this.post(await authorization(header), false);
    }
  }

  async locate() {
    const { headers } = await request("HEAD", this.path, this.controller.signal);
    if (Number(headers.get("Upload-Length")) !== this.sealed) throw new Gone();
    this.offset = Number(headers.get("Upload-Offset"));
  }

  async sendPiece() {
    // A piece that was sent in part is not encrypted again.
    const { begin, bytes } = this.hasPiece() ? this.piece : await this.seal();
    const started = performance.now();
    const headers = { "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(this.offset) };
    const answer = await request("PATCH", this.path, this.controller.signal, headers, bytes.subarray(this.offset - begin));
    this.offset = Number(answer.headers.get("Upload-Offset"));
    const took = performance.now() - started;
    if (took < FAST_MS) this.segments = Math.min(MOST, this.segments * 2);
    if (took > SLOW_MS) this.segments = Math.max(FEWEST, this.segments / 2);
    this.show("running");
  }

  hasPiece() {
    const { piece, offset } = this;
    return piece && piece.begin <= offset && offset < piece.begin + piece.bytes.length;
  }

  /** Encrypt the piece in which the offset is. */
  async seal() {
    const first = Math.floor(this.offset / SEALED_SEGMENT);
    const end = Math.min(this.size, (first + this.segments) * SEGMENT);
    let content;
    try {
      content = new Uint8Array(await this.file.slice(first * SEGMENT, end).arrayBuffer());
    } catch {
      throw new Unreadable();
    }
    if (content.length !== end - first * SEGMENT) throw new Unreadable();
    const bytes = await sealSegments(await importFileKey(this.key), this.size, first, content);
    this.piece = { begin: first * SEALED_SEGMENT, bytes };
    return this.piece;
  }

  /** Forget what was uploaded: the next run begins anew, with a new key. */
  restart() {
    if (this.kept) forgetUnfinished(this.kept.upload);
    this.kept = null;
    this.path = null;
    this.piece = null;
    this.offset = 0;
    this.show("ready");
  }

  /** End the upload, and let the server delete it. */
  async cancel() {
    const { path } = this;
    this.controller.abort();
    this.restart();
    // What remains expires after a day.
    if (path) await request("DELETE", path, new AbortController().signal).catch(() => {});
  }
}
