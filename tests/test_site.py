"""The answers to people who open any address of the service in a browser, and to crawlers and researchers."""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from src import errors
from src.pages.assets import read_assets
from src.pages.branding import read_brand
from src.pages.languages import read_languages
from src.pages.problem_page import problem_page
from src.settings import Settings, SettingsError, read_settings

from .conftest import Api
from .test_pages import BROWSER

Client = TestClient[web.Request, web.Application]
LANGUAGES = read_languages()
BRAND = read_brand(Settings(_env_file=None))
FAILING = (
    ("/unknown", 404, "not_found", "not_found"),
    ("/generate", 405, "method_not_allowed", "method"),
    ("/me", 401, "unauthorized", "unauthorized"),
    (f"/receipts/{'A' * 60}", 404, "key_not_found", "not_found"),
    ("/posts/x", 404, "not_found", "not_found"),
)
"""Paths, and the status, the code and the texts of the page that a GET returns."""


@pytest.mark.parametrize(("path", "status", "kind"), [(path, status, kind) for path, status, _, kind in FAILING])
@pytest.mark.parametrize("code", sorted(LANGUAGES))
async def test_a_browser_gets_an_error_as_a_page(client: Client, code: str, path: str, status: int, kind: str) -> None:
    """In its language, with the status and headers of the JSON, and without scripts."""
    page = await client.get(path, headers={**BROWSER, "Accept-Language": f"{code}, en;q=0.5"})
    data = await client.get(path)
    text, title = await page.text(), LANGUAGES[code].problems[f"{kind}_title"]

    assert (status, "text/html; charset=utf-8") == (page.status, page.headers["Content-Type"])
    assert [code, f"{title} · Sealpost", title] == re.findall(r"<(?:html lang=.|title>|h1>)([^\"<]+)", text)
    assert "script" not in text.lower()
    assert "Accept, Accept-Language, Cookie" == page.headers["Vary"]
    for name in ("Allow", "WWW-Authenticate", "Cache-Control"):
        assert data.headers.get(name) == page.headers.get(name)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html;q=0.9", ""])
@pytest.mark.parametrize(("path", "status", "code"), [failing[:3] for failing in FAILING])
async def test_programs_get_errors_as_json(client: Client, accept: str, path: str, status: int, code: str) -> None:
    """Problem details, as if there were no pages."""
    answer = await client.get(path, headers={"Accept": accept})
    problem = await answer.json(content_type="application/problem+json")

    assert (status, status, code) == (answer.status, problem["status"], problem["code"])
    assert "Vary" not in answer.headers


@pytest.mark.parametrize(
    ("problem", "title"),
    [
        (errors.Misdirected, "Wrong address"),
        (errors.TooMany, "Too many requests"),
        (errors.Problem, "Something went wrong"),
        (errors.Unavailable, "Temporarily unavailable"),
        (errors.StorageFull, "Storage full"),
        (errors.TooLarge, "Too large"),
        (errors.Damaged, "Damaged"),
        (errors.Malformed, "Request rejected"),
        (errors.CrossSite, "Request rejected"),
    ],
)
def test_every_error_has_a_page(problem: type[errors.Problem], title: str) -> None:
    """In each language, with HTML in the detail escaped."""
    assert title == problem_page(LANGUAGES["en"], BRAND, problem.status, "").title
    for language in LANGUAGES.values():
        body = problem_page(language, BRAND, problem.status, "<b>").body
        assert "<b>" not in body
        assert "{detail}" not in body


async def test_the_host_check_answers_a_browser_with_a_page(serve: Callable[..., Awaitable[Api]]) -> None:
    """421 under another name."""
    api = await serve(public_url="https://secrets.example.org")
    answer = await api.client.get("/", headers={**BROWSER, "Host": "other.example"})

    assert (421, "text/html; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    assert "<h1>Wrong address</h1>" in await answer.text()


async def test_nothing_is_indexed(client: Client) -> None:
    """For all crawlers."""
    answer = await client.get("/robots.txt")

    assert (200, "text/plain; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    assert "User-agent: *\nDisallow: /\n" == await answer.text()


async def test_there_is_an_icon(client: Client) -> None:
    """The one that the page links."""
    answer = await client.get("/favicon.ico")
    body = await answer.read()

    assert (200, "image/svg+xml") == (answer.status, answer.headers["Content-Type"])
    assert "public, max-age=86400" == answer.headers["Cache-Control"]
    assert read_assets().files["icon.svg"] == body


async def test_researchers_are_told_whom_to_write_to(serve: Callable[..., Awaitable[Api]]) -> None:
    """All contacts, and a date less than a year ahead (RFC 9116)."""
    api = await serve(security_contact="mailto:security@example.org, https://example.org/report")
    answer = await api.client.get("/.well-known/security.txt")
    fields = [line.partition(": ")[::2] for line in (await answer.text()).splitlines()]
    expires = datetime.fromisoformat(fields[-1][1])

    assert (200, "text/plain; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    assert [("Contact", "mailto:security@example.org"), ("Contact", "https://example.org/report")] == fields[:-1]
    assert "Expires" == fields[-1][0]
    assert timedelta(days=29) < expires - datetime.now(UTC) < timedelta(days=365)


async def test_without_a_contact_there_is_no_file(client: Client, api: Api) -> None:
    """404, as for any unknown path."""
    answer = await client.get("/.well-known/security.txt")

    assert (404, "not_found") == (answer.status, (await answer.json())["code"])


@pytest.mark.parametrize("value", ["security@example.org", "http://example.org", "mailto:a b@example.org", "mailto:"])
def test_a_contact_that_is_no_uri_is_refused(value: str) -> None:
    """At start, by the name of the setting."""
    with pytest.raises(SettingsError, match="SEALPOST_SECURITY_CONTACT"):
        read_settings(security_contact=value)
    assert () == Settings(_env_file=None, security_contact=" , ").security_contacts
