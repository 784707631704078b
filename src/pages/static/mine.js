// The view of the secrets and messages that a user keeps with the account: their states, and deleting them.

import { describeFiles } from "./describe_files.js";
import { ask, copyOf, fillList, focusRow, request, startForUser } from "./lists.js";
import { $, drawIcon, formatExpiry, formatMinute, t } from "./page.js";

/** Return what a row says about an item, besides its state. */
function describe(item, files) {
  const isWaiting = item.state === "waiting";
  return [
    item.opened_at && t("opened_at", { time: formatMinute(item.opened_at) }),
    isWaiting && t("valid_until", { time: formatExpiry(item.expires_at) }),
    isWaiting && item.opens_left != null && t("views_left", { n: item.opens_left }),
    item.failed_attempts > 0 && t("failed_attempts", { n: item.failed_attempts }),
    files,
  ];
}

async function draw(row, item) {
  const [heading, details, created] = row.querySelectorAll("h2, p");
  heading.textContent = t(`state_${item.state}`);
  drawIcon(row, item.state);
  created.textContent = t("kept_at", { kind: t(`kind_${item.kind}`), time: formatMinute(item.created_at) });
  row.querySelector("button").hidden = item.state !== "waiting";
  const show = (files) => (details.textContent = describe(item, files).filter(Boolean).join(" · "));
  show();
  if (item.files) show(await describeFiles(item));
}

function rowOf(item) {
  const row = copyOf("item");
  const button = row.querySelector("button");
  draw(row, item);
  button.setAttribute("aria-label", t("delete_of", { time: formatMinute(item.created_at) }));
  button.addEventListener("click", () =>
    ask(t("burn_ask"), t("delete_now"), () => request("DELETE", `me/items/${item.id}`), () => {
      draw(row, { ...item, state: "burned" });
      focusRow(row);
    }),
  );
  return row;
}

startForUser("mine", () =>
  fillList($("items"), (before) => request("GET", `me/items${before ? `?before=${before}` : ""}`), rowOf),
);
