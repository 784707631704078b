// The view of posts: of all users or of one, newest first. Users write, like, dislike and delete them.

import { ask, attempt, copyOf, explain, fillList, removeRow, request, startForUser } from "./lists.js";
import { $, formatExpiry, formatMinute, runBusy, t } from "./page.js";

const author = new URLSearchParams(location.search).get("author");
const form = $("form");

async function load(cursor) {
  const query = new URLSearchParams({ ...(author ? { author } : {}), ...(cursor ? { cursor } : {}) });
  const { posts, next_cursor: next } = await request("GET", `posts?${query}`);
  return { items: posts, next };
}

function drawReactions(row, { likes, dislikes, mine }) {
  for (const [name, count] of [["like", likes], ["dislike", dislikes]]) {
    const button = row.querySelector(`.${name}`);
    button.setAttribute("aria-pressed", String(mine === name));
    button.querySelector("span").textContent = count;
  }
}

function reactOnClick(row, name, post) {
  const button = row.querySelector(`.${name}`);
  button.addEventListener("click", () =>
    attempt(button, async () => {
      const isPressed = button.getAttribute("aria-pressed") === "true";
      drawReactions(row, await request(isPressed ? "DELETE" : "PUT", `posts/${post.id}/${isPressed ? "reaction" : name}`));
    }),
  );
}

/** Return a function that makes the element of a post for a user. */
const rowFor = (user) => (post) => {
  const row = copyOf("post");
  const [title, link, time, expiry, content] = row.querySelectorAll("h2, a, time, .hint span, .content");
  title.textContent = post.title ?? "";
  title.hidden = !post.title;
  link.textContent = post.author;
  link.href = `?author=${encodeURIComponent(post.author)}`;
  time.textContent = formatMinute(post.created_at);
  time.dateTime = post.created_at;
  expiry.textContent = post.expires_at ? `· ${t("valid_until", { time: formatExpiry(post.expires_at) })}` : "";
  content.textContent = post.content;
  drawReactions(row, post);
  for (const name of ["like", "dislike"]) reactOnClick(row, name, post);
  const button = row.querySelector(".delete");
  button.hidden = post.author !== user.username && !user.operator;
  button.addEventListener("click", () =>
    ask(t("post_ask"), t("delete_now"), () => request("DELETE", `posts/${post.id}`), () => removeRow(row)),
  );
  return row;
};

function showProblem(text) {
  $("content-problem").textContent = text;
  $("content").setAttribute("aria-invalid", String(Boolean(text)));
  if (text) $("content").focus();
}

function publishOnSubmit(user) {
  form.onsubmit = async (event) => {
    event.preventDefault();
    const [title, content, seconds] = ["title", "content", "ttl"].map((id) => $(id).value);
    showProblem(content ? "" : t("no_text"));
    if (!content) return;
    let problem = "";
    try {
      await runBusy($("publish"), async () => {
        const body = { content, ...(title ? { title } : {}), ...(seconds ? { ttl: { seconds: Number(seconds) } } : {}) };
        const row = rowFor(user)(await request("POST", "posts", body));
        form.reset();
        $("posts").prepend(row);
      });
    } catch (error) {
      problem = explain(error);
    }
    showProblem(problem);
    if (!problem) $("publish").focus();
  };
}

function showAuthor() {
  $("board-title").textContent = t("posts_by", { author });
  document.title = document.title.replace(/^.*? · /, () => `${$("board-title").textContent} · `);
}

startForUser("board", async (user) => {
  if (author) showAuthor();
  $("all-posts").hidden = !author;
  form.hidden = Boolean(author);
  publishOnSubmit(user);
  await fillList($("posts"), load, rowFor(user));
});
