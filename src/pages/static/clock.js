// The server's clock: the clock of this device may be wrong.

const LONGEST_TIMER_MS = 1e9; // A timer overflows after 24.8 days.
const SHORTEST_TIMER_MS = 1000;
let offset = 0;
let timer;

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

/** Call a function at a timestamp of the API, after 1 second at the earliest. Replaces the previous call. */
export function callAt(text, act) {
  const left = timeUntil(text);
  clearTimeout(timer);
  timer = setTimeout(() => (left > LONGEST_TIMER_MS ? callAt(text, act) : act()), Math.max(SHORTEST_TIMER_MS, Math.min(left, LONGEST_TIMER_MS)));
}
