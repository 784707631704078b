// Lists whose items have a title, a text and buttons.

import { ConnectionLost } from "./api.js";
import { element } from "./elements.js";
import { $, t } from "./page.js";

let made = 0;

/** Show items in a list; `describe` returns the `title`, `text` and `actions` of each: `label`, `act`, `isDangerous`. */
export function showItems(list, items, describe) {
  const hadFocus = list.contains(document.activeElement);
  list.replaceChildren(...items.map((one) => itemOf(describe(one))));
  // The button that had it is gone.
  if (hadFocus) list.closest("[tabindex]").focus();
}

function itemOf({ title, text, actions }) {
  made += 1;
  const id = `item-${made}`;
  const heading = element("bdi", { id }, title);
  const buttons = actions.map(({ label, act, isDangerous = false }, at) => {
    const own = `${id}-${at}`;
    const button = element("button", { type: "button", id: own, class: isDangerous ? "small danger" : "small", "aria-labelledby": `${own} ${id}` }, label);
    button.addEventListener("click", () => run(button, act));
    return button;
  });
  return element("li", {}, element("div", {}, heading, element("p", { class: "hint" }, text)), ...buttons);
}

async function run(button, act) {
  button.disabled = true;
  $("said").textContent = "";
  try {
    await act();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    $("said").textContent = t("no_response");
    $("list-problem").textContent = t("no_response");
  } finally {
    button.disabled = false;
  }
}
