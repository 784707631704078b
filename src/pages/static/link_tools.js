// A new link with its tools: copy, the share sheet of the device, and a QR code on demand.

import { $, copyOnClick } from "./page.js";

/** Show a link in its field, and draw its code. */
export async function showLink(link) {
  $("link").value = link;
  showCode(false);
  // Invisible, it keeps its place: appearing later would move what follows.
  $("show-qr").style.visibility = "hidden";
  try {
    const { generate } = await import("./lean-qr.js");
    // White pixels: forced colors would repaint a background.
    generate(link).toCanvas($("qr"), { off: [255, 255, 255, 255] });
    $("show-qr").style.visibility = "";
  } catch {
    // The connection is lost. The link is more important.
  }
}

function showCode(shown) {
  $("qr").hidden = !shown;
  $("show-qr").setAttribute("aria-expanded", String(shown));
}

$("show-qr").addEventListener("click", () => showCode($("qr").hidden));
$("share-link").hidden = !navigator.share;
// Rejected if the user closes the sheet.
$("share-link").addEventListener("click", () => navigator.share({ url: $("link").value }).catch(() => {}));
copyOnClick($("copy-link"), () => $("link").value);
$("link").addEventListener("focus", ({ target }) => target.select());
