"""The reference of the API and the page about the service: complete, escaped, and true."""

import asyncio
import json
import os
import re
import secrets
import sys
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from src import __version__
from src.accounts.auth import Scope
from src.pages import documents
from src.pages.assets import read_assets
from src.pages.languages import read_languages
from src.pages.markup import element, markup, prose
from src.pages.reference import Labels, Reference
from src.pages.templates import POLICY

from .conftest import Api
from .senders import make_operator
from .test_downloads import opened
from .test_pages import BROWSER
from .uploads import create

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Api]]

ROOT = Path(__file__).parents[1]
LANGUAGES = read_languages()
ENGLISH = Labels("en", *(f"label {number}" for number in range(8)))
SECRET, MESSAGE, PHRASE = {"secret": "a", "phrase": "old friend"}, {"message": "a"}, "old friend"
USER = {"username": "ben", "password": "correct horse battery staple"}
NEED_A_PASSKEY = {
    *("POST /passkeys", "PATCH /passkeys/{passkey_id}", "DELETE /passkeys/{passkey_id}", "POST /login/passkey"),
    "DELETE /me/password",
}
"""No variable can stand for the answer of an authenticator."""
FIRST = "POST /register"
"""Its example creates the account that the others use."""
LAST = ("PUT /me/password", "DELETE /me")
"""Their examples change the account that the others need."""


class Outline(HTMLParser):
    """The elements of a page, its ids, its links, and the text of each section with an id."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags[tag] += 1
        self.ids += [attributes["id"] or ""] if "id" in attributes else []
        self.links += [attributes["href"] or ""] if "href" in attributes else []
        if tag == "section":
            self._open.append(attributes.get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "section":
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in self._open:
            self.texts[name] = self.texts.get(name, "") + data


async def page_of(client: Client, path: str, **headers: str) -> str:
    """Return a page."""
    async with client.get(path, headers={**BROWSER, **headers}) as answer:
        assert (200, "text/html; charset=utf-8") == (answer.status, answer.headers["Content-Type"])
        return await answer.text()


async def openapi(client: Client) -> Any:
    """Return the OpenAPI document."""
    async with client.get("/openapi.json") as answer:
        return await answer.json()


def section_of(operation: dict[str, Any]) -> str:
    """Return the id of an operation's section."""
    return str(operation["operationId"]).strip("_").replace("_", "-")


def examples_in(page: str) -> dict[str, str]:
    """Return the command of each operation's section, by method and path."""
    sections = re.findall(r'<section id="[\w-]+" class="card operation">(.*?)</section>', page, re.DOTALL)
    found = {}
    for section in sections:
        heading, command = re.search(r"<h3>(.*?)</h3>", section), re.search(
            r"<pre><code>(curl.*?)</code>", section, re.DOTALL
        )
        assert heading
        assert command
        found[unescape(re.sub("<[^>]+>", "", heading[1]))] = unescape(command[1])
    return found


async def run(command: str, *, directory: Path, **environment: str) -> str:
    """Run a command in a shell and return its output."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-ec", command), cwd=directory, env={**os.environ, **environment}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()

    assert 0 == process.returncode, command
    return output.decode()


async def test_the_reference_has_the_whole_document(client: Client) -> None:
    """Each operation has a section with its method, path, texts, parameters, fields, statuses and error codes."""
    document = await openapi(client)
    outline = Outline(await page_of(client, "/docs"))
    shared = outline.texts["errors"]

    def fields(schema: dict[str, Any]) -> set[str]:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return set(schema.get("properties", ()))

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            text = outline.texts[section_of(operation)]
            needed = {method.upper(), path, f"{operation['summary']}."}
            needed |= {re.sub("`", "", operation.get("description", ""))}
            needed |= {parameter["name"] for parameter in operation.get("parameters", ())}
            for content in operation.get("requestBody", {"content": {}})["content"].values():
                needed |= fields(content["schema"])
            for status, answer in operation["responses"].items():
                if status < "400":
                    needed |= {status}.union(*(fields(one["schema"]) for one in answer.get("content", {}).values()))
                for code in re.findall(r"`(\w+)`: ", answer["description"]):
                    assert code in text or code in shared, (method, path, code)

            assert set() == {one for one in needed if one not in text}, (method, path)
    assert len(outline.ids) == len(set(outline.ids))


async def test_every_link_of_the_contents_resolves(client: Client) -> None:
    """Links lead to a section, or are relative, so that they work behind a path prefix."""
    for path in ("/docs", "/about"):
        outline = Outline(await page_of(client, path))

        assert set() == {link[1:] for link in outline.links if link.startswith("#")} - set(outline.ids)
        assert [] == [link for link in outline.links if not link.startswith(("#", "./", "?"))]


async def test_the_examples_work(serve: Serve, tmp_path: Path) -> None:
    """The command of each operation, as it is on the page, gets a successful response."""
    api = await serve(security_contact="mailto:security@example.org")
    (tmp_path / "file.txt").write_text("the content")
    page = await page_of(api.client, "/docs")
    examples = examples_in(page)
    document = await openapi(api.client)
    operations = {
        f"{method.upper()} {path}": one
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    }
    statuses = {}
    for name in sorted(examples, key=lambda name: LAST.index(name) if name in LAST else -1 - (name == FIRST)):
        environment = await variables(api, examples[name], operations[name])
        # A download is saved under its own name.
        output = "" if "-OJ" in examples[name] else "-o answer"
        command = examples[name].replace("curl", f"curl -s {output} -w '%{{http_code}}'", 1)
        statuses[name] = await run(command, directory=tmp_path, **environment)
        if name == "PUT /me/password":
            new = {"current": "three other words", "new": USER["password"]}
            await api.call("PUT", "/me/password", new, token=environment["TOKEN"])

    assert set(operations) == set(examples)
    assert NEED_A_PASSKEY == {name for name, status in statuses.items() if status[0] != "2"}, statuses


async def variables(api: Api, command: str, operation: dict[str, Any]) -> dict[str, str]:
    """Return values for the variables of an example, from requests whose responses contain them."""

    async def answer(method: str, path: str, body: object = None, *, token: str = "") -> Any:
        status, found = await api.call(method, path, body, token=token)
        assert status < 300, (path, found)
        return found

    async def access_token() -> str:
        await api.call("POST", "/register", USER)
        await make_operator(api, USER["username"])
        return str((await answer("POST", "/login", USER))["access_token"])

    async def token() -> str:
        scopes = next(iter(operation["security"][0].values()))
        if not scopes:
            return await access_token()
        body = {"name": "example", "scopes": scopes}
        return str((await answer("POST", "/tokens", body, token=await access_token()))["token"])

    async def session_id() -> str:
        return str((await answer("GET", "/sessions", token=await access_token()))["sessions"][0]["id"])

    async def token_id() -> str:
        body = {"name": "another", "scopes": [Scope.ECHO]}
        return str((await answer("POST", "/tokens", body, token=await access_token()))["id"])

    async def code() -> str:
        verifier = re.search(r'"verifier": ?"([^"]+)"', command)
        assert verifier
        challenge = urlsafe_b64encode(sha256(verifier[1].encode()).digest()).rstrip(b"=").decode()
        return str((await answer("POST", "/login/codes", {"challenge": challenge}, token=await access_token()))["code"])

    async def invitation_id() -> str:
        return str((await answer("POST", "/invitations", {}, token=await access_token()))["id"])

    async def user_id() -> str:
        other = {**USER, "username": f"other-{secrets.token_hex(4)}"}
        return await member("POST", "/register", other, "user_id")

    async def item_id() -> str:
        token = await access_token()
        await answer("POST", "/generate", {**SECRET, "keep": True}, token=token)
        return str((await answer("GET", "/me/items", token=token))["items"][0]["id"])

    async def post_id() -> str:
        return str((await answer("POST", "/posts", {"content": "a"}, token=await access_token()))["id"])

    async def member(method: str, path: str, body: object, name: str) -> str:
        return str((await answer(method, path, body))[name])

    async def secret_key() -> str:
        key = await member("POST", "/generate", SECRET, "secret_key")
        if "/received" in command:
            reader = re.search(r'"reader": ?"([^"]+)"', command)
            assert reader
            await answer("POST", f"/secrets/{key}", {"phrase": SECRET["phrase"], "reader": reader[1]})
        return key

    sources: dict[str, Callable[[], Awaitable[str]]] = {
        "TOKEN": token,
        "REFRESH_TOKEN": lambda: member("POST", "/login", USER, "refresh_token"),
        "CODE": code,
        "SECRET_KEY": secret_key,
        "RECEIPT_KEY": lambda: member("POST", "/generate", SECRET, "receipt_key"),
        "SESSION_ID": session_id,
        "TOKEN_ID": token_id,
        "POST_ID": post_id,
        "INVITATION_ID": invitation_id,
        "USER_ID": user_id,
        "ITEM_ID": item_id,
        "UPLOAD_KEY": lambda: create(api, 11),
    }
    values = {"DIGEST": read_assets().digest, "FILE": "page.css"}
    if "$FILE_ID" in command:
        download = await opened(api, (b"the content",))
        return {"SECRET_KEY": download.key, "FILE_ID": download.files[0]["id"], "READER": download.reader}
    if "$MESSAGE_KEY" in command:
        values["MESSAGE_KEY"] = (await member("POST", "/", MESSAGE, "url")).rpartition("/")[2]
    for name in re.findall(r"\$([A-Z_]+)", command):
        if name in sources:
            values[name] = await sources[name]()
    return values


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"Host": "notes.example:8080"}, "http://notes.example:8080"),
        (
            {
                "Host": "x",
                "X-Forwarded-Host": "notes.example",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Prefix": "/a&b",
            },
            "https://notes.example/a&b",
        ),
    ],
)
async def test_the_examples_have_the_url_of_the_request(serve: Serve, headers: dict[str, str], url: str) -> None:
    """Host, scheme and path prefix, escaped."""
    api = await serve(behind_nginx=True)
    page = await page_of(api.client, "/docs", **headers)

    assert {url} == {unescape(found) for found in re.findall(r"curl [^&]*&quot;(\S+?)/hello&quot;", page)}
    assert "/a&b" not in page
    assert "\0" not in page


async def test_an_invalid_host_is_not_repeated(client: Client) -> None:
    """HTML and shell syntax in the Host header do not reach the page."""
    for path in ("/docs", "/about"):
        page = await page_of(client, path, Host='x"><b>$(id)')
        assert "$(id)" not in page


@pytest.mark.parametrize("path", ["/docs", "/about"])
async def test_a_document_needs_no_script(client: Client, path: str) -> None:
    """It has the policy and headers of the other views, and no script, inline style or event handler."""
    async with client.get(path, headers=BROWSER) as answer:
        page = await answer.text()
        headers = answer.headers
    async with client.head(path) as head:
        assert (200, headers["Content-Length"], b"") == (head.status, head.headers["Content-Length"], await head.read())

    assert POLICY == headers["Content-Security-Policy"]
    assert "Accept, Accept-Language, Cookie" == headers["Vary"]
    assert {"/docs": documents.CACHE_CONTROL, "/about": "no-store, no-transform"}[path] == headers["Cache-Control"]
    assert [] == re.findall(r"<script|<noscript|<style|\son\w+=|\sstyle=|javascript:|<form", page)
    assert {"page.css", "documents.css"} == set(re.findall(r"pages/[0-9a-f]{16}/([\w.]+\.css)", page))


async def test_only_the_documents_load_their_style(client: Client) -> None:
    """The style sheet of the documents costs a reader of a link nothing."""
    for path in ("/", "/s", "/m", "/r"):
        assert "documents.css" not in await page_of(client, path)


@pytest.mark.parametrize("code", sorted(LANGUAGES))
async def test_the_documents_are_in_the_language_of_the_reader(client: Client, code: str) -> None:
    """Headings are in its language; the descriptions of the reference are marked as English."""
    docs = await page_of(client, "/docs", **{"Accept-Language": code})
    about = await page_of(client, "/about", **{"Accept-Language": code})
    texts = LANGUAGES[code].html

    assert f'<html lang="{code}">' in docs
    assert f"<h1>{texts['title_docs']}</h1>" in docs
    assert ">" + texts["docs_example"] + "</h4>" in docs
    assert '<div class="reference" lang="en">' in docs
    assert (code == "en") == ("<h4>" in docs)
    for number in range(1, 11):
        assert texts[f"about_promise_{number}"] in unescape(about)


async def test_a_reference_is_rendered_once_per_language(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later request, even under another host name, costs no more than inserting the host name."""
    rendered = list[Labels]()

    def render(document: Any, labels: Labels) -> Reference:
        rendered.append(labels)
        return Reference(document, labels)

    monkeypatch.setattr(documents, "Reference", render)
    api = await serve()
    for number, code in enumerate(("en", "de", "en", "de", "xx")):
        await page_of(api.client, "/docs", **{"Accept-Language": code, "Host": f"host-{number}"})

    assert ["en", "de"] == [labels.language for labels in rendered]


async def test_html_in_the_document_is_text(client: Client) -> None:
    """HTML in any text of the document is escaped: the reference has the same elements as without it."""
    document = await openapi(client)
    payload = "</code></p><script>alert(1)</script>&lt;"

    def spoiled(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoiled(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [spoiled(one, key) for one in value]
        if key not in {"description", "summary", "pattern", "default"} or not isinstance(value, str):
            return value
        # Of a list of errors, each.
        return re.sub(r"(`\w+`: )", rf"\1{payload}", value) if value.startswith("`") else value + payload

    plain, odd = (
        "".join((of.contents(), of.authentication(), of.errors(), of.operations()))
        for of in (Reference(document, ENGLISH), Reference(spoiled(document), ENGLISH))
    )

    assert odd.count("alert(1)") > 100
    assert Outline(plain).tags - Counter(p=1) == Outline(odd).tags - Counter(p=1)


def test_markup_escapes_all_that_is_not_markup() -> None:
    """Texts, attributes, and words in backticks."""
    assert '<a href="&quot;&gt;">&lt;b&gt; <b>1</b></a>' == element("a", "<b> ", element("b", "1"), href='">')
    assert "<code>&lt;i&gt;</code> &amp; <code>a</code>" == prose("`<i>` & ``a``")
    assert "a&amp;<b></b>" == markup("a&", element("b"))


async def test_a_browser_at_the_document_gets_the_reference(client: Client) -> None:
    """A relative redirect, so that it works behind a path prefix; programs get the document as ever."""
    async with client.get("/openapi.json", headers=BROWSER, allow_redirects=False) as sent:
        assert (302, "docs", "Accept") == (sent.status, sent.headers["Location"], sent.headers["Vary"])
    for accept in ("*/*", "application/json", "application/json, text/html;q=0.9", ""):
        async with client.get("/openapi.json", headers={"Accept": accept}, allow_redirects=False) as answer:
            assert (200, "application/json") == (answer.status, answer.headers["Content-Type"])
            assert "3.1.0" == json.loads(await answer.read())["openapi"]


async def test_the_checksum_can_be_computed(serve: Serve, tmp_path: Path) -> None:
    """Both commands of the page, on the source and on the files that the server sends, print its checksum."""
    api = await serve()
    page = await page_of(api.client, "/about")
    checksum, source, served = (unescape(code) for code in re.findall(r"<pre[^>]*><code>(.*?)</code>", page, re.DOTALL))

    assert [f"{checksum}  -\n"] * 2 == [await run(source, directory=ROOT), await run(served, directory=tmp_path)]
    assert checksum.startswith(read_assets().digest)
    assert f"<code>{__version__}</code>" in page


async def test_the_page_about_the_service_tells_nothing_about_its_host(client: Client, api: Api) -> None:
    """No path, user, process or setting of the server."""
    page = await page_of(client, "/about")
    private = {str(ROOT), os.uname().nodename, str(os.getpid()), str(api.settings.mongo_database), sys.version}
    # Every page has these, and a short number may also be a part of the checksum.
    sources = [*(ROOT / "src" / "pages" / "html").iterdir(), *(ROOT / "src" / "pages" / "messages").iterdir()]
    public = "".join(source.read_text(encoding="utf-8") for source in sources) + str(client.make_url("/"))

    def has(text: str, word: str) -> bool:
        return bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text))

    assert [] == [one for one in private if has(page, one) and not has(public, one)]
