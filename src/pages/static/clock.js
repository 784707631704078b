// The server's clock: the clock of this device may be wrong.

let offset = 0;

/** Set the clock by the `Date` header of a response; without the header it is left alone. */
export function setClock(date) {
  const time = Date.parse(date);
  // The header has whole seconds, rounded down: a text expires on this clock up to 1 second late, and never early.
  if (!Number.isNaN(time)) offset = time - Date.now();
}

/** Return the server's time. */
export const now = () => new Date(Date.now() + offset);

/** Return the milliseconds until a timestamp of the API; negative after it. */
export const timeUntil = (text) => new Date(text) - now();
