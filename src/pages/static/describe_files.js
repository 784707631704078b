// The files of an item, in words.

import { t } from "./page.js";

/** Return the number and size of an item's files; null if it has none. */
export async function describeFiles({ files: n, files_bytes: bytes }) {
  if (!n) return null;
  try {
    const { formatBytes } = await import("./file_display.js");
    return t("files", { n, size: formatBytes(bytes) });
  } catch {
    // The connection is lost. The state is more important.
    return null;
  }
}
