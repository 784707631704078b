"""The states of the views for signed-in users, for screenshots and examinations."""

from collections.abc import Iterator
from contextlib import suppress
from urllib.error import HTTPError

from playwright.sync_api import Page

from .signed_in import PASSWORD, register, sent, sign_in

UMBRELLA = {"title": "Lost and found", "content": "Whose blue umbrella is this?\nIt has been in the hall since Monday."}
HOSTILE = {"content": "<script>alert(1)</script> is only a text here.", "ttl": {"days": 7}}
HEBREW = {"title": "קוד הדלת", "content": "קוד הדלת השתנה. שאלו בקבלה."}
# Of a different user for each size and color scheme, in the order in which they are taken.
_MEMBERS = iter(("Carla", "Diego", "Emma", "Farid"))


def user_states(page: Page, base: str, operator: str) -> Iterator[str]:
    """Bring the page into each state of these views, and yield its name."""
    member = next(_MEMBERS)
    token = register(base, member)
    sign_in(page, base, member)
    yield from _mine(page, base, token)
    credentials = {"username": operator, "password": PASSWORD}
    operator_token = sent(base, "POST", "login", credentials)["access_token"]
    yield from _board(page, base, {member: token, operator: operator_token})
    page.goto(f"{base}/admin")
    page.wait_for_selector("#notice:not([hidden])")
    yield "operators-only"
    sign_in(page, base, operator)
    yield from _admin(page, base, member)
    page.context.clear_cookies()
    page.evaluate("localStorage.clear()")


def _shows(page: Page, link: str, selector: str) -> None:
    """Load a link, even if only the fragment changes, and wait for an element."""
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(f"{selector}:not([hidden])")


def _mine(page: Page, base: str, token: str) -> Iterator[str]:
    _shows(page, f"{base}/mine", "#mine")
    yield "mine-none"

    def keep(**body: object) -> str:
        created = sent(base, "POST", "generate", {"secret": "a text", "keep": True, **body}, token=token)
        return str(created["secret_key"])

    sent(base, "POST", f"secrets/{keep()}", {})
    with suppress(HTTPError):
        sent(base, "POST", f"secrets/{keep(phrase='right', max_attempts=1)}", {"phrase": "wrong"})
    sent(base, "POST", "", {"message": "to all", "keep": True}, token=token)
    newest = sent(base, "GET", "me/items", token=token)["items"][0]
    sent(base, "DELETE", f"me/items/{newest['id']}", token=token)
    keep(max_opens=3)
    _shows(page, f"{base}/mine", "#mine")
    yield "mine"
    page.click("#items button")
    yield "mine-delete"


def _board(page: Page, base: str, tokens: dict[str, str]) -> Iterator[str]:
    member, operator = tokens
    written = ((member, HEBREW), (operator, HOSTILE), (member, UMBRELLA))
    posts = [sent(base, "POST", "posts", post, token=tokens[author])["id"] for author, post in written]
    sent(base, "PUT", f"posts/{posts[2]}/like", token=tokens[member])
    sent(base, "PUT", f"posts/{posts[2]}/like", token=tokens[operator])
    sent(base, "PUT", f"posts/{posts[1]}/dislike", token=tokens[member])
    _shows(page, f"{base}/board", "#board")
    yield "board"
    page.click("#publish")
    yield "board-refused"
    _shows(page, f"{base}/board?author={operator}", "#board")
    yield "board-author"
    for post in posts:
        sent(base, "DELETE", f"posts/{post}", token=tokens[operator])


def _admin(page: Page, base: str, member: str) -> Iterator[str]:
    _shows(page, f"{base}/admin", "#users-panel")
    yield "admin-users"
    page.locator("#user-list > li", has_text=member).get_by_role("button").first.click()
    yield "admin-disable"
    _shows(page, f"{base}/admin#invitations", "#invitations-panel")
    yield "admin-invitations"
    page.click("#invite")
    page.wait_for_selector("#invited:not([hidden])")
    page.click("#show-qr")
    yield "admin-invited"
    _shows(page, f"{base}/admin#audit", "#audit-panel")
    page.fill("#user-name", member)
    page.click("#show-events")
    page.wait_for_selector("#show-events:not([disabled])")
    yield "admin-audit"
    _shows(page, f"{base}/admin#health", "#health-panel")
    yield "admin-health"
