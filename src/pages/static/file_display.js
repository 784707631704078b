// How files are shown: their style sheet, which is loaded with this module, and their sizes.

import { locale } from "./page.js";

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

const style = document.createElement("link");
style.rel = "stylesheet";
style.href = new URL("files.css", import.meta.url);
document.head.append(style);
await new Promise((loaded, failed) => {
  style.onload = loaded;
  style.onerror = failed;
});

/** Format a number of bytes for the user, in units of 1024 as most systems show them. */
export function formatBytes(bytes) {
  const power = Math.min(UNITS.length - 1, bytes && Math.floor(Math.log2(bytes) / 10));
  const number = bytes / 1024 ** power;
  const unitDisplay = power ? "short" : "long";
  const maximumFractionDigits = number < 10 ? 1 : 0;
  return new Intl.NumberFormat(locale, { style: "unit", unit: UNITS[power], unitDisplay, maximumFractionDigits }).format(number);
}
