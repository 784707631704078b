// The menu of the signed-in user.

import { $ } from "./page.js";
import { session, signOut } from "./session.js";

const menu = $("menu");

/** Show operators what only they can do, and close the menu. */
export async function update() {
  menu.open = false;
  try {
    $("menu-admin").hidden = !(await session())?.operator;
  } catch {
    // There is no connection: the menu stays as it is.
  }
}

$("sign-out").addEventListener("click", async ({ target }) => {
  let isLost = false;
  target.disabled = true;
  $("sign-out-problem").hidden = true;
  try {
    await signOut();
  } catch {
    isLost = true;
  }
  target.disabled = false;
  $("sign-out-problem").hidden = !isLost;
  // A disabled button loses the focus.
  (isLost ? target : $("sign-in")).focus();
});
addEventListener("click", ({ target }) => menu.contains(target) || (menu.open = false));
menu.addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.firstElementChild.focus();
});
