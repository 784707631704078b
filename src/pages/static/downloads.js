// Downloads of a secret's files: each is verified and decrypted as it arrives, and continues after an interruption.

import { ConnectionLost, ROOT } from "./api.js";
import { join } from "./bytes.js";
import { setClock } from "./clock.js";
import { NotOpened } from "./envelope.js";
import { SEALED_SEGMENT, importFileKey, openSegments } from "./segments.js";

const STALL_MS = 60000;
// Pauses before an interrupted download continues by itself.
const PAUSES_MS = [1000, 3000, 5000];

/** The hold is over: the server no longer sends the file to this reader. */
export class HoldOver extends Error {}

/** The data stored on the server is damaged. */
export class Damaged extends Error {}

/** The reader has cancelled the download. */
export class Cancelled extends Error {}

const pause = (duration, signal) =>
  new Promise((resume) => {
    setTimeout(resume, duration);
    signal.addEventListener("abort", resume);
  });

const FINAL = { 404: HoldOver, 410: Damaged };

/** A file on its way from the server to a sink, which has the methods `write`, `close` and `abort`. */
export class Download {
  /**
   * `path` is that of the file, `reader` the reader's key, and `sealed` the size at the server, in bytes. `size` and
   * `key` belong to the content; the key is null if the server decrypts the file.
   */
  constructor({ path, reader, sealed, size, key }, sink) {
    Object.assign(this, { path, reader, sealed, size, key, sink });
    // The bytes of the server that have been written: whole segments.
    this.done = 0;
  }

  /**
   * Write the rest of the file and close the sink. `progressed` gets the number of bytes so far. Throws `HoldOver`,
   * `Damaged`, `Cancelled`, `NotOpened` if the file was altered, the errors of the sink, and `ConnectionLost`; after
   * that, another call continues.
   */
  async run(signal, progressed) {
    const key = this.key && (await importFileKey(this.key));
    for (let failures = 0; this.done < this.sealed; ) {
      const before = this.done;
      try {
        await this.receive(key, signal, progressed);
      } catch (error) {
        if (!(error instanceof ConnectionLost)) throw error;
        if (this.done > before) failures = 0;
        if (failures === PAUSES_MS.length) throw error;
        await pause(PAUSES_MS[failures], signal);
        failures += 1;
      }
    }
    if (signal.aborted) throw new Cancelled();
    await this.sink.close();
  }

  /** Send one request for the rest, and write what arrives. */
  async receive(key, signal, progressed) {
    const controller = new AbortController();
    const stop = () => controller.abort();
    const lost = () => {
      throw signal.aborted ? new Cancelled() : new ConnectionLost();
    };
    let timer = setTimeout(stop, STALL_MS);
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
    try {
      const body = (await this.request(controller.signal, lost)).body.getReader();
      for (let rest = new Uint8Array(); ; ) {
        const { done, value } = await body.read().catch(lost);
        clearTimeout(timer);
        if (done) break;
        rest = await this.take(join(rest, value), key);
        progressed(this.done + rest.length);
        timer = setTimeout(stop, STALL_MS);
      }
      if (this.done < this.sealed) lost();
    } catch (error) {
      // The file was altered, or cannot be written.
      stop();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    }
  }

  async request(signal, lost) {
    const headers = { "Sealpost-Reader": this.reader };
    if (this.done) headers.Range = `bytes=${this.done}-`;
    const options = { headers, signal, cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" };
    const response = await fetch(new URL(this.path, ROOT), options).catch(lost);
    setClock(response.headers.get("Date"));
    if (response.status in FINAL) throw new FINAL[response.status]();
    if (response.status !== (this.done ? 206 : 200)) lost();
    return response;
  }

  /** Write the whole segments at the beginning of `bytes`, which follow those that are done; return the others. */
  async take(bytes, key) {
    const end = this.done + bytes.length;
    if (end > this.sealed) throw new NotOpened();
    const length = key && end < this.sealed ? bytes.length - (bytes.length % SEALED_SEGMENT) : bytes.length;
    if (!length) return bytes;
    const part = bytes.subarray(0, length);
    await this.sink.write(key ? await openSegments(key, this.size, this.done / SEALED_SEGMENT, part) : part);
    this.done += length;
    return bytes.subarray(length);
  }
}
