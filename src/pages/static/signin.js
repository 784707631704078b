// The view that signs in, creates an account, and signs in the terminal of this computer.

import { ConnectionLost, ROOT, call as send } from "./api.js";
import { hasPasskeys, passkeyFailure, usePasskey } from "./passkeys.js";
import { $, runBusy, showNotice, showSection, startView, t, toggleOnClick } from "./page.js";
import { explain } from "./rejections.js";
import { call, restoreSession, signOut, signedIn } from "./session.js";
import { signedInName, takeReturn } from "./signed_in.js";
import { forgetTerminal, readTerminal } from "./terminal.js";

const USERNAME = /^[\w.-]{3,32}$/;
const SHORTEST_PASSWORD = 8;
// The challenge of the server lasts for 5 minutes.
const CHALLENGE_MS = 240000;
const isJoining = location.pathname.endsWith("/join");
const invitation = location.hash.match(/si_[\w-]{43}/)?.[0];
let service;
let terminal;
// Ends the request of a passkey that waits in the suggestions of the browser.
let suggestions = new AbortController();

/** Show a problem under its field, or that of the whole form; an empty text removes what is shown. */
function setProblem(id, text) {
  const section = $(id).closest("section");
  for (const one of section.querySelectorAll(".problem")) one.textContent = "";
  for (const one of section.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  if (!text) return;
  const isField = $(id).matches("input");
  $(isField ? `${id}-problem` : id).textContent = text;
  if (isField) $(id).setAttribute("aria-invalid", "true");
  (isField ? $(id) : section.querySelector("input")).focus();
}

/** Run a task of a form; show the problem that it returns, also if there is no response. */
async function attempt(button, problem, task) {
  let found;
  setProblem(problem, "");
  try {
    await runBusy(button, async () => {
      found = await task();
    });
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    found = { text: t("no_response") };
  }
  if (found) setProblem(found.field ?? problem, found.text);
}

/** Sign in with the body of a request; return the problem if the server refuses. */
async function enter(path, body) {
  const result = await send("POST", path, { ...body, cookie: true }, { credentials: "same-origin" });
  if (!result.ok) return { text: explain(result, result.answer) };
  suggestions.abort();
  await proceed(await signedIn(result.answer));
}

/** After signing in, ask about the terminal, or go where the user came from. */
function proceed(user) {
  if (!terminal) return location.replace(takeReturn() ?? ROOT);
  $("approve-title").textContent = t("approve", { name: user.username });
  showSection("approve");
}

function findProblem(username, password) {
  if (!USERNAME.test(username)) return { field: "new-username", text: t("username_invalid") };
  if ([...password].length < SHORTEST_PASSWORD) return { field: "new-password", text: t("password_short") };
}

async function register() {
  const [username, password] = [$("new-username").value.trim(), $("new-password").value];
  const problem = findProblem(username, password);
  if (problem) return problem;
  const result = await send("POST", "register", { username, password, ...(invitation ? { invitation } : {}) });
  if (!result.ok) return { text: explain(result, result.answer), field: result.code === "username_taken" ? "new-username" : undefined };
  // Another user of this browser.
  if (signedInName() !== null) await signOut();
  return enter("login", { username, password });
}

/** Sign in with a passkey; return the problem. With `extra`, it waits in the suggestions of the browser. */
async function enterWithPasskey(extra) {
  const result = await send("POST", "login/passkey/options", {});
  if (!result.ok) return { text: explain(result, result.answer) };
  const { challenge, options } = result.answer;
  let credential;
  try {
    credential = await usePasskey(options, extra);
  } catch (error) {
    // The user has not asked for a passkey.
    if (extra) return;
    return { text: t(passkeyFailure(error)) };
  }
  return enter("login/passkey", { challenge, credential });
}

/** Offer passkeys among the suggestions for the username, until another way is used. */
async function suggestPasskeys() {
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  suggestions = new AbortController();
  const { signal } = suggestions;
  const renewal = setTimeout(() => {
    suggestions.abort();
    suggestPasskeys();
  }, CHALLENGE_MS);
  try {
    const problem = await enterWithPasskey({ mediation: "conditional", signal });
    if (problem && !signal.aborted) setProblem("problem", problem.text);
  } catch (error) {
    // There is no connection: the button says so.
    if (!(error instanceof ConnectionLost)) throw error;
  }
  clearTimeout(renewal);
}

function showForm() {
  const { registration, sign_in: ways, oidc_name: provider } = service;
  const canUse = (way) => ways.includes(way);
  $("form").hidden = !canUse("password");
  $("passkey").hidden = !(canUse("passkey") && hasPasskeys);
  $("provider").hidden = !canUse("oidc");
  $("provider").textContent = t("with_provider", { name: provider });
  $("others").hidden = $("passkey").hidden && $("provider").hidden;
  $("or").hidden = $("form").hidden;
  $("to-register").hidden = registration !== "open";
  $("by-invitation").hidden = registration !== "invite";
  $("by-operator").hidden = registration !== "closed";
  showSection("enter");
  $("username").focus();
  if (!$("passkey").hidden) suggestPasskeys();
}

function showRegistration() {
  suggestions.abort();
  $("to-sign-in").hidden = isJoining && service.registration === "closed";
  showSection("register");
  $("new-username").focus();
}

async function approve() {
  const result = await call("POST", "login/codes", { challenge: terminal.challenge });
  if (result.status === 401) return showForm();
  if (!result.ok) return { text: explain(result, result.body) };
  forgetTerminal();
  const answer = new URLSearchParams({ code: result.body.code, state: terminal.state });
  location.replace(`http://127.0.0.1:${terminal.port}/?${answer}`);
}

async function start() {
  try {
    terminal = readTerminal();
  } catch {
    return showNotice("terminal_invalid");
  }
  let user;
  try {
    const result = await send("GET", "service");
    if (!result.ok) throw new ConnectionLost();
    service = result.answer;
    user = await restoreSession();
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    return showNotice("no_answer", {}, start);
  }
  if (isJoining) {
    if (service.registration === "closed") return showNotice("join_closed");
    if (!invitation && service.registration === "invite") return showNotice("join_incomplete");
    $("register-signed-in").hidden = !user;
    return showRegistration();
  }
  if (!user) return showForm();
  return terminal ? proceed(user) : location.replace(takeReturn() ?? new URL("account", ROOT));
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("submit"), "problem", () => {
    const [username, password] = [$("username").value.trim(), $("password").value];
    return username && password ? enter("login", { username, password }) : { text: t("missing") };
  });
});
$("register-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("register-submit"), "register-problem", register);
});
$("passkey").addEventListener("click", () => {
  suggestions.abort();
  attempt($("passkey"), "problem", () => enterWithPasskey());
});
$("to-register").querySelector("button").addEventListener("click", showRegistration);
$("to-sign-in").querySelector("button").addEventListener("click", showForm);
$("approve-yes").addEventListener("click", async () => {
  $("approve-problem").textContent = "";
  try {
    const problem = await approve();
    $("approve-problem").textContent = problem?.text ?? "";
  } catch (error) {
    if (!(error instanceof ConnectionLost)) throw error;
    $("approve-problem").textContent = t("no_response");
  }
});
$("approve-no").addEventListener("click", () => {
  forgetTerminal();
  location.replace(ROOT);
});
$("approve-switch").addEventListener("click", () => signOut().then(showForm, () => showNotice("no_answer", {}, start)));
toggleOnClick($("show-password"), $("password"));
toggleOnClick($("show-new-password"), $("new-password"));
addEventListener("hashchange", () => location.reload());
startView(start);
