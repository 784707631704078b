"""The page as the server sends it: files, headers, languages. tests/browser runs it in a browser."""

import json
import re
import tomllib
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, make_mocked_request

from src.api.pages import html_of
from src.errors import Malformed, Problem, TooMany, Unavailable
from src.pages.assets import CACHE_CONTROL, STATIC, media_type, read_assets
from src.pages.branding import read_brand
from src.pages.languages import MESSAGES, Language, choose_language, read_languages
from src.pages.message_page import MessagePage
from src.pages.problem_page import problem_page
from src.pages.templates import HTML, POLICY, Templates
from src.settings import Settings

from .conftest import Api

ROOT = Path(__file__).parents[1]
LEAN_QR = "9f064e870e3ab537ca1f87fadbaa45dd7fa56d8c32440bbddb8b893201b951d7"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
VIEWS = ("/", "/s", "/m", "/r", "/mine", "/board", "/admin", f"/secrets/{'A' * 43}")
BUDGET = 64_000
READER_BUDGET = 54_000
FILES_BUDGET = 24_000
LANGUAGES = read_languages()
BRAND = read_brand(Settings(_env_file=None))

Client = TestClient[web.Request, web.Application]


async def view(client: Client, path: str, **headers: str) -> str:
    """Return the HTML of a view."""
    answer = await client.get(path, headers={**BROWSER, **headers})

    assert (200, "text/html; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
    return await answer.text()


def rendered(templates: Templates, name: str, root: str) -> str:
    """Return the HTML of a view in English, without a server."""
    body = templates.view(name, root=root)(make_mocked_request("GET", "/")).body

    assert isinstance(body, bytes)
    return body.decode()


@pytest.mark.parametrize("path", VIEWS)
async def test_a_view_is_restricted_by_its_policy(client: Client, path: str) -> None:
    """Its policy allows only its own files, and the HTML has no inline script, style or event handler."""
    answer = await client.get(path, headers=BROWSER)
    page = await answer.text()

    assert POLICY == answer.headers["Content-Security-Policy"]
    assert {"no-store, no-transform", "no-referrer", "nosniff"} == {
        answer.headers[name] for name in ("Cache-Control", "Referrer-Policy", "X-Content-Type-Options")
    }
    assert "Accept, Accept-Language, Cookie" == answer.headers["Vary"]
    assert "unsafe" not in POLICY
    assert [] == re.findall(r"<style|\son\w+=|\sstyle=|https?:|javascript:|<form[^>]*action", page)
    assert {'type="module" src', 'type="application/json" id'} == set(re.findall(r"<script ([^=]+=\S+ \w+)=", page))


def test_the_policy_is_as_documented() -> None:
    """`docs/security.md` lists exactly the directives of the policy."""
    section = (ROOT / "docs" / "security.md").read_text().partition("\n## The page\n")[2].partition("\n## ")[0]

    assert set(POLICY.split("; ")) == set(re.findall(r"`([a-z-]+ '[a-z]+')`", section))


async def test_programs_get_json(client: Client, api: Api) -> None:
    """JSON unless they prefer HTML; `Vary` tells caches that the response depends on `Accept`."""
    key = (await (await client.post("/generate", json={"secret": "a text"})).json())["secret_key"]
    for accept in ("*/*", "application/json", "application/json, text/html;q=0.9", ""):
        greeting = await client.get("/", headers={"Accept": accept})
        status = await client.get(f"/secrets/{key}", headers={"Accept": accept})

        assert {"Hello": "Welcome to the Echo Room."} == await greeting.json()
        assert 1 == (await status.json())["opens_left"]
        assert ("Accept", "Accept") == (greeting.headers["Vary"], status.headers["Vary"])
    assert "Vary" not in (await client.get("/hello")).headers


async def test_looking_with_a_browser_opens_nothing(client: Client, api: Api) -> None:
    """The page of a secret is the same for every key, so a link preview learns nothing."""
    key = (await (await client.post("/generate", json={"secret": "a text"})).json())["secret_key"]

    assert await view(client, f"/secrets/{key}") == await view(client, f"/secrets/{'A' * 43}")
    assert "a text" == (await (await client.post(f"/secrets/{key}")).json())["secret"]


async def test_the_files_are_kept_under_a_path_of_their_own(client: Client) -> None:
    """Every file that a view links is served with its type and cached for 1 year; under another digest it is a 404."""
    assets = read_assets()
    page = await view(client, "/")
    named = set(re.findall(r'(?:src|href)="\./(pages/[^"]+)"', page))

    assert named
    for path in {*named, *(assets.path + name for name in assets.files)}:
        answer = await client.get(f"/{path}")
        assert (200, CACHE_CONTROL) == (answer.status, answer.headers["Cache-Control"])
        assert media_type(path) == answer.headers["Content-Type"]
        assert assets.files[path.rpartition("/")[2]] == await answer.read()
    for path in ("/pages/0000000000000000/page.js", f"/{assets.path}x.js", f"/{assets.path}..%2Ffeature.py"):
        answer = await client.get(path)
        assert (404, "no-store, no-transform") == (answer.status, answer.headers["Cache-Control"])


def test_the_digest_changes_with_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of content or name changes the digest."""
    digests = set()
    for name, body in (("a.js", "1"), ("a.js", "2"), ("b.js", "2")):
        directory = tmp_path / f"{name}{body}"
        directory.mkdir()
        (directory / name).write_text(body)
        monkeypatch.setattr("src.pages.assets.STATIC", directory)
        digests.add(read_assets().digest)

    assert 3 == len(digests)


def loaded_by(page: str) -> set[str]:
    """Return the names of the files that a view loads: those in its HTML, and the modules that these import."""
    named = set(re.findall(r"pages/[0-9a-f]{16}/([\w.-]+)", page))
    return named.union(*(imported_by(name) for name in named if name.endswith(".js")))


def imported_by(script: str) -> set[str]:
    """Return the names of the modules that a script imports, itself or through another."""
    files = read_assets().files
    found, left = set[str](), {script}
    while left:
        imported = set(re.findall(r'(?:from|import) "\./([\w.-]+)"', files[left.pop()].decode())) - found
        found |= imported
        left |= imported
    return found


def loaded_later_by(script: str) -> set[str]:
    """Return the names of the modules that a script loads only when it needs them, and of those that these import."""
    loaded = imported_by(script) | {script}
    files = read_assets().files
    lazy = {name for each in loaded for name in re.findall(r'import\("\./([\w.-]+)"\)', files[each].decode())}
    return lazy.union(*(imported_by(name) for name in lazy)) - loaded


# What a sender loads for other purposes than files: the code of a link, and the session of a user.
NOT_FOR_FILES = {"lean-qr.js", "menu.js", "session.js"}


@pytest.mark.parametrize("path", ["/", "/s", "/m", "/r"])
async def test_what_a_view_loads_is_small(client: Client, path: str) -> None:
    """HTML and files in any language: under 64 kB before compression; a reader's views under 54 kB."""
    files = read_assets().files
    for code in LANGUAGES:
        page = await view(client, path, **{"Accept-Language": code})
        size = len(page.encode()) + sum(len(files[name]) for name in loaded_by(page))

        assert {"page.js", "page.css"} <= loaded_by(page)
        assert size < (BUDGET if path == "/" else READER_BUDGET)


@pytest.mark.parametrize(("path", "budget"), [("/signin", 58_000), ("/account", 70_000)])
async def test_what_users_load_is_bounded(client: Client, path: str, budget: int) -> None:
    """HTML and files of the views that sign in and manage the account, in any language, before compression."""
    files = read_assets().files
    for code in LANGUAGES:
        page = await view(client, path, **{"Accept-Language": code})

        assert len(page.encode()) + sum(len(files[name]) for name in loaded_by(page)) < budget


@pytest.mark.parametrize("name", ["secret", "message"])
def test_readers_load_nothing_of_accounts(name: str) -> None:
    """Neither the session nor the menu, whether they are signed in or not."""
    page = rendered(Templates(Settings(_env_file=None), read_assets(), LANGUAGES, BRAND), name, "./")
    modules = loaded_by(page) | loaded_later_by("open.js")

    assert set() == modules & {"signed_in.js", "session.js", "menu.js", "menu.css", "forms.css"}
    assert 'id="menu"' not in page


def test_a_service_for_users_says_so_before_a_text_is_lost() -> None:
    """Only without anonymous creation, the view that shares has a section for signing in."""
    for anonymous in (True, False):
        settings = Settings(_env_file=None, anonymous_create=anonymous)
        page = rendered(Templates(settings, read_assets(), LANGUAGES, BRAND), "create", "./")

        assert anonymous != ('id="locked"' in page)


def test_a_service_without_accounts_has_no_menu() -> None:
    """Neither the link for signing in nor the menu of the user."""
    settings = Settings(_env_file=None, features="messages,files")
    page = rendered(Templates(settings, read_assets(), LANGUAGES, BRAND), "create", "./")

    assert not re.findall('id="(sign-in|menu)"', page)


@pytest.mark.parametrize(("script", "some"), [("open.js", "downloads.js"), ("create.js", "uploads.js")])
def test_what_files_need_is_loaded_for_files_only(script: str, some: str) -> None:
    """Readers and senders without files do not load their modules; those with files load under 24 kB more."""
    modules = loaded_later_by(script) - NOT_FOR_FILES

    assert {some, "segments.js"} <= modules
    assert sum(len(read_assets().files[name]) for name in {*modules, "files.css"}) < FILES_BUDGET


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_every_language_names_the_browsers_of_the_documentation(code: str) -> None:
    """The same browsers with the same versions, in the same order."""
    table = (ROOT / "docs" / "pages.md").read_text().partition("| browser |")[2].partition("\n\n")[0]
    rows = re.findall(r"(?m)^\| ([A-Z][\w, ]+) \| (\d+) \|", table)
    text = LANGUAGES[code].html["unsupported"]

    assert [version for _, version in rows] == re.findall(r"\d+", text)
    assert [name for names, _ in rows for name in names.split(", ")] == re.findall("Chrome|Edge|Firefox|Safari", text)


@pytest.mark.parametrize(
    ("script", "views"),
    [
        ("create", ["create"]),
        ("open", ["secret", "message"]),
        ("receipt", ["receipt"]),
        ("signin", ["signin"]),
        ("account", ["account"]),
        ("mine", ["mine"]),
        ("board", ["board"]),
        ("admin", ["admin"]),
    ],
)
def test_a_script_gets_the_texts_that_it_names(script: str, views: list[str]) -> None:
    """The page of a view has each text that its script, or a module that it loads at any time, names in a call."""
    files = read_assets().files
    names = {f"{script}.js", *imported_by(f"{script}.js"), *loaded_later_by(f"{script}.js")}
    sources = "".join(files[name].decode() for name in names)
    named = set(re.findall(r'\bt\("(\w+)"', sources)) | {
        f"{key}_{part}" for key in re.findall(r'showNotice\("(\w+)"', sources) for part in ("title", "text", "next")
    }
    texts = {re.sub(r"_(one|other)$", "", key) for view in views for key in LANGUAGES["en"].views[view]}

    assert named
    assert set() == named - texts


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_an_error_page_fits_in_a_string_of_nginx(code: str) -> None:
    """With its style and a long detail, each is shorter than the 4096 bytes of nginx's buffer."""
    sizes = {
        status: len(html_of(problem_page(LANGUAGES[code], BRAND, status, "x" * 200)).encode())
        for status in range(400, 512)
    }

    assert {} == {status: size for status, size in sizes.items() if size >= 4096}


def test_html_in_a_translation_is_text() -> None:
    """HTML in a text is escaped, in the templates and in the JSON for the scripts."""
    payload = "</script><script>alert(1)</script>{{{strings}}}"
    english = LANGUAGES["en"]
    html, script, problems = (
        dict.fromkeys(texts, payload) for texts in (english.html, english.script, english.problems)
    )
    views = {view: dict.fromkeys(texts, payload) for view, texts in english.views.items()}
    odd = Language("en", html, script, problems, views)
    templates = Templates(Settings(_env_file=None), read_assets(), {"en": odd}, BRAND)

    for name, root in product(("create", "secret", "message", "receipt"), ("./", "../")):
        text = rendered(templates, name, root)
        strings = text.partition('id="strings">')[2].partition("</script>")[0]

        assert 2 == text.count("<script")
        assert set(english.views[name]) == set(json.loads(strings))
        assert {payload} == set(json.loads(strings).values())


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "en"),
        ("de-CH, en;q=0.8", "de"),
        ("nl, fr;q=0.5, es;q=0.7", "es"),
        ("zh-Hans-CN", "zh"),
        ("nl", "en"),
        ("de;q=0, *", "en"),
        ("*;q=0.1, fr;q=x", "en"),
        ("<script>, ../../x", "en"),
    ],
)
async def test_the_language_is_the_one_that_is_asked_for(client: Client, header: str, code: str) -> None:
    """The available language with the highest weight; English for all others."""
    assert code == choose_language(header, tuple(LANGUAGES))
    assert f'<html lang="{code}">' in await view(client, "/s", **{"Accept-Language": header})


@pytest.mark.parametrize(
    ("settings", "values", "selected"),
    [
        ({}, ["300", "3600", "14400", "86400", "259200", "604800"], "604800"),
        ({"ttl_max": 3600, "ttl_default": 600}, ["300", "3600", ""], ""),
        ({"ttl_max": 10}, [""], ""),
    ],
)
def test_only_what_the_server_allows_is_offered(settings: dict[str, Any], values: list[str], selected: str) -> None:
    """Lifetimes up to its limit, with its default selected."""
    page = rendered(Templates(Settings(_env_file=None, **settings), read_assets(), LANGUAGES, BRAND), "create", "./")
    options = re.findall(r'<option value="(\d*)"( selected)?>', page)

    assert values == [value for value, _ in options]
    assert [selected] == [value for value, chosen in options if chosen]


@pytest.mark.parametrize(
    ("settings", "most"), [({}, ("104857600", "20")), ({"file_max": 9, "files_max": 1}, ("9", "1"))]
)
def test_a_server_with_files_offers_to_attach_them(settings: dict[str, Any], most: tuple[str, str]) -> None:
    """The button has the limits, so that the page can name them before it sends anything."""
    page = rendered(Templates(Settings(_env_file=None, **settings), read_assets(), LANGUAGES, BRAND), "create", "./")

    assert [most] == re.findall(r'id="attach" class="pill" data-largest="(\d+)" data-most="(\d+)"', page)
    assert "or attach files" in page


def test_a_server_without_files_does_not_offer_them() -> None:
    """There is neither a button for files nor a word of them."""
    page = rendered(Templates(Settings(_env_file=None, file_max=0), read_assets(), LANGUAGES, BRAND), "create", "./")
    write = page.partition('<section id="write"')[2].partition("</section>")[0]

    assert 'type="file"' not in write
    assert "attach files" not in write
    assert "Attach files" not in write


def test_the_vendored_file_is_as_it_was_published() -> None:
    """Unchanged, with its licence."""
    assert LEAN_QR == sha256((STATIC / "lean-qr.js").read_bytes()).hexdigest()
    assert "MIT License" in (STATIC / "lean-qr.LICENSE.txt").read_text()


def test_the_files_are_installed_with_the_package() -> None:
    """Each directory that is not a package is in the package data."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["sealpost.pages"]

    assert {f"{directory.name}/*" for directory in (HTML, MESSAGES, STATIC)} == set(data)


async def test_the_state_of_a_secret_is_shown_at_its_link(client: Client, api: Api) -> None:
    """The state, and the time of opening; nothing for a message or an unknown key."""
    opened, burned, locked = [
        await (await client.post("/generate", json={"secret": "a", "phrase": "b", "max_attempts": 1})).json()
        for _ in range(3)
    ]
    await client.post(f"/secrets/{opened['secret_key']}", json={"phrase": "b"})
    await client.delete(f"/receipts/{burned['receipt_key']}")
    await client.post(f"/secrets/{locked['secret_key']}", json={"phrase": "c"})
    message = await (await client.post("/", json={"message": "a"})).json()
    await client.delete(f"/receipts/{message['receipt_key']}")
    keys = [one["secret_key"] for one in (opened, burned, locked)] + [message["url"].rpartition("/")[2], "A" * 43]

    answers = [await client.get(f"/secrets/{key}") for key in keys]
    told = [await answer.json() for answer in answers]
    receipt = await (await client.get(f"/receipts/{opened['receipt_key']}")).json()

    assert [404] * 5 == [answer.status for answer in answers]
    assert {"Key not found"} == {one["detail"] for one in told}
    assert ["opened", "burned", "locked", None, None] == [one.get("state") for one in told]
    assert [receipt["opened_at"], *[None] * 4] == [one.get("opened_at") for one in told]


async def test_a_damaged_tombstone_discloses_nothing(client: Client, api: Api) -> None:
    """A damaged tombstone gets the response of an unknown key."""
    key = (await api.create())["secret_key"]
    await api.open(key)
    await api.items.update_one({}, {"$set": {"created_at": "x"}})

    answer = await client.get(f"/secrets/{key}")
    assert (404, None) == (answer.status, (await answer.json()).get("state"))


@pytest.mark.parametrize(
    ("language", "gone", "damaged"),
    [("en", "Message not found", "Damaged"), ("de-AT", "Nachricht nicht gefunden", "Beschädigt")],
)
async def test_a_browser_gets_a_page_for_a_missing_message(
    client: Client, api: Api, language: str, gone: str, damaged: str
) -> None:
    """In its language and with the next step, with the same status; programs get the problem as JSON."""
    created = await (await client.post("/", json={"message": "a"})).json()
    kept = f"/message/{created['url'].rpartition('/')[2]}"
    await api.items.update_one({}, {"$set": {"envelope": b"x"}})
    titles = {f"/message/{'A' * 43}": gone, "/message/%3Cscript%3E": gone, kept: damaged}

    for path, title in titles.items():
        page = await client.get(path, headers={**BROWSER, "Accept-Language": language})
        data = await client.get(path)
        text = await page.text()
        assert ("application/problem+json", data.status) == (data.headers["Content-Type"], page.status)
        assert "Accept, Accept-Language, Cookie" == page.headers["Vary"]
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
        assert [language[:2], f"{title} · Sealpost", title] == re.findall(r"<(?:html lang=.|title>|h1>)([^\"<]+)", text)
        assert 2 == text.count("<p>")
        assert "script" not in text.lower()
    assert {404, 410} == {(await client.get(path)).status for path in titles}


@pytest.mark.parametrize(
    ("problem", "title", "text"),
    [
        (Unavailable(), "The server is busy", "It cannot respond right now."),
        (Problem(), "The server is busy", "It cannot respond right now."),
        (TooMany(), "The server is busy", "It cannot respond right now."),
        (
            Malformed("No <b>{time}</b>."),
            "Request rejected",
            "The server rejected the request: No &lt;b&gt;{time}&lt;/b&gt;.",
        ),
    ],
)
def test_every_problem_has_its_text(problem: Problem, title: str, text: str) -> None:
    """Server errors and limits are called temporary; the detail of other problems is shown, escaped."""
    request = make_mocked_request("GET", "/message/x", headers={"Accept-Language": "en"})
    page = MessagePage(LANGUAGES, BRAND).refused(request, problem)

    assert title == page.title
    assert f"<p>{text}" in page.body
