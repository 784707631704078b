"""The message page in a real browser: whatever a message contains is shown as text, and does nothing.

Shown is every character but NUL, which HTML cannot carry (the parser drops it): it is in the JSON answer alone.
"""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from bench.running_stack import RunningStack
from src.api.pages import page_response
from src.pages.branding import read_brand
from src.pages.languages import read_languages
from src.pages.message_page import message_page
from src.sealed.schemas import MessageAnswer
from src.settings import Settings

from ..processes import PATIENCE
from .browser import Browser, Visit, connected, running_chromium
from .traffic import gather_limited

pytestmark = pytest.mark.stack

AT_ONCE = 40
"""Pages open at the same time: the browser takes its second to call one idle, with next to no work."""
ENGLISH = read_languages()["en"]
BRAND = read_brand(Settings(_env_file=None))
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HARMLESS = "Good morning."
NUL = "\0"
# Leaves a trace in the page, and opens a dialog.
DO = "window.ran=1;alert(1)"
DATA = "data:text/html,<script>alert(1)</script>"
ELSEWHERE = "http://evil.test/"

RUNNING = (
    f"<script>{DO}</script>",
    f"<ScRiPt >{DO}</sCrIpT\t>",
    f"<script/x>{DO}</script/x>",
    f"<<script>{DO}//<</script>",
    f'<script src="data:text/javascript,{DO}"></script>',
    f"<script type=module>{DO}</script>",
    f"<img src=x onerror='{DO}'>",
    f"<img/src=x\n/\nonerror\n=\n'{DO}'>",
    "<IMG SRC=x OnErRoR=window.ran=1,alert(1)>",
    f"<svg onload='{DO}'>",
    f"<svg/onload={DO}>",
    f"<svg><script>{DO}</script></svg>",
    "<svg><script>window.ran=1&#59;alert&#40;1&#41;</script></svg>",
    f"<svg><animate onbegin='{DO}' attributeName=x dur=1s>",
    f"<svg><foreignObject><img src=x onerror='{DO}'></foreignObject></svg>",
    f"<body onload='{DO}'>",
    f"<body onpageshow='{DO}'>",
    f"<details open ontoggle='{DO}'>",
    f"<input autofocus onfocus='{DO}'>",
    f"<video><source onerror='{DO}'></video>",
    f"<audio src=x onerror='{DO}'>",
    f"<style onload='{DO}'></style>",
    f"<iframe onload='{DO}'></iframe>",
    "<iframe srcdoc='<script>parent.ran=1;parent.alert(1)</script>'></iframe>",
    "<iframe src='javascript:parent.ran=1;parent.alert(1)'></iframe>",
    f"<object data=x onerror='{DO}'></object>",
    f"<math><mtext><mglyph><style></math><img src=x onerror='{DO}'>",
    f"<noscript><p title=\"</noscript><img src=x onerror='{DO}'>\">",
    f"--><script>{DO}</script><!--",
    f"<!--><script>{DO}</script>-->",
    f"<!-- --!><script>{DO}</script>",
    f"]]><script>{DO}</script><![CDATA[",
    f"</pre></textarea></title></style></script></noscript></template></iframe><script>{DO}</script>",
    f"</pre></body></html><script>{DO}</script>",
    f'"><script>{DO}</script>',
    f"'><script>{DO}</script>",
    f"`><script>{DO}</script>",
    f'" onerror="{DO}" x="<img src=x onerror=\'{DO}\'>',
    f"\ufeff<script>{DO}</script>",
    f"\ufffe\ufeff<script>{DO}</script>",
    f"\r<script>{DO}</script>\n",
    f"<template><b></b></template><script>{DO}</script>",
    f"<div><template shadowrootmode=open><img src=x onerror='{DO}'></template></div>",
    (
        f"jaVasCript:/*-/*`/*\\`/*'/*\"/**/(/* */{DO} )//%0D%0A//</stYle/</titLe/</teXtarEa/</scRipt/--!>"
        f"\\x3csVg/<sVg/oNloAd={DO}//>\\x3e"
    ),
)
"""Runs by itself where it is taken for HTML."""
MARKUP = (
    f"<a href='javascript:{DO}'>x</a>",
    f"<a href='&#106;ava&Tab;script&colon;{DO}'>x</a>",
    f"<a href=' java\nscript:{DO}'>x</a>",
    f'<a href="{DATA}">x</a>',
    f"<a href='//evil.test' target=_blank ping='{ELSEWHERE}'>x</a>",
    f"<form action='javascript:{DO}'><button formaction='{ELSEWHERE}'>x</button></form>",
    f"<p onmouseover='{DO}' onclick='{DO}' style='position:fixed;inset:0'>x</p>",
    f'<iframe src="{DATA}"></iframe>',
    f"<iframe src='{ELSEWHERE}'></iframe>",
    f'<object data="{DATA}"></object>',
    f"<embed src='{ELSEWHERE}'>",
    f"<img src='{ELSEWHERE}a.png' srcset='{ELSEWHERE}b.png 2x'>",
    f"<svg><image href='{ELSEWHERE}'/><use href='{ELSEWHERE}#x'/></svg>",
    f"<svg><a xlink:href='javascript:{DO}'><text y=20>x</text></a></svg>",
    f"<math><maction actiontype=statusline xlink:href='javascript:{DO}'>x</maction></math>",
    f"<math href='javascript:{DO}'><mi>x</mi></math>",
    f"<style>@import '{ELSEWHERE}';</style>",
    "<style>@import url(//evil.test/x.css);*{display:none}</style>",
    f"<style>@font-face{{font-family:x;src:url({ELSEWHERE})}}pre{{font-family:x}}</style>",
    f"<b style='background:url({ELSEWHERE})'>x</b>",
    f"<link rel=stylesheet href='{ELSEWHERE}'>",
    f"<link rel=icon href='{ELSEWHERE}'><link rel=preload as=image href='{ELSEWHERE}'>",
    f"<base href='{ELSEWHERE}'><img src=x>",
    f"<meta http-equiv=refresh content='0;url={ELSEWHERE}'>",
    "<meta http-equiv=refresh content='0;url=data:text/html,x'>",
    '<meta http-equiv=Content-Security-Policy content="default-src *"><meta charset=utf-7>',
    f"<frameset onload='{DO}'><frame src='{ELSEWHERE}'></frameset></html>",
    "<!doctype html><html lang=xx manifest=x><head><title>another</title>",
    f"<!-- comment --><!doctype x><?xml version='1.0'?><![CDATA[<script>{DO}</script>]]>",
    f"<form><math><mtext></form><form><mglyph><style></math><img src onerror='{DO}'>",
    "</pre><pre>another",
    "</pre><p>Available until never.</p><!--",
    f"<plaintext><script>{DO}</script>",
    f"<xmp></pre><script>{DO}</script>",
    f"<textarea><script>{DO}</script>",
    f"<title><script>{DO}</script>",
    f"<noembed><noframes><listing><script>{DO}</script>",
    "<b><i><table><tr><td><select><option><x-y><custom-element>",
    f"<scr{NUL}ipt>{DO}</script><im{NUL}g src={ELSEWHERE}>",
)
"""Makes elements where it is taken for HTML."""
TEXTS = (
    HARMLESS,
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&amp;lt;b&amp;gt; &#60;b&#62; &#x3c;b&#x3E; &lt &gt &amp &quot; &apos; &nbsp; &notin; &not it",
    "&#0; &#13; &#128; &#xD800; &#x110000; &#99999999999; &#; &#x; &;",
    "%3Cscript%3Ealert(1)%3C/script%3E %253Cb%253E",
    "\\u003cscript\\u003ealert(1)\\x3c/script\\x3e",
    "{{7*7}} {{constructor.constructor('alert(1)')()}} {% for x in y %} {# x #}",
    "${7*7} ${alert(1)} #{7*7} <%= 7*7 %> *{7*7} @{7*7} [[7*7]] %{title} {body} {0} %s %(x)s $1 \\1 \\g<0>",
    "{page.title} {answer.message} {self.__class__.__mro__}",
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "+/v8-+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "~{<script~} ~<script~>",  # HZ-GB-2312
    "\x1b$B<script>alert(1)</script>\x1b(B \x1b(J\\\x1b$@<img src=x onerror=alert(1)>",  # ISO-2022-JP
    "\ufeffone",
    "\ufeff\ufeff",
    "\ufffeone \uffff",
    "ï»¿<b> þÿ<b> ÿþ<b>",  # the marks of UTF-8 and UTF-16, read in Latin-1
    "\u3c73\u6372\u6970\u7074\u3e3c",  # <script> in UTF-16, read as one
    "＜script＞alert(1)＜/script＞ ‹b› ﹤b﹥ <ſcript>",  # noqa: RUF001 (likenesses are the point)
    "\u202e<script>\u202c \u2066\u2067\u2068\u2069 \u200e\u200f\u061c gpj.exe",
    "\u0627\u0644\u0633\u0644\u0627\u0645 <b> \u05e9\u05dc\u05d5\u05dd",
    "\u200b\u200c\u200d\u2060\u00ad\u180e\ufe0f\U000e0001\U000e0041",
    "Z\u0351\u036b\u0343\u036a\u0302" * 50,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd",
    "".join(map(chr, [*range(0x20), *range(0x7F, 0xA1)])),
    f"{NUL}a{NUL}{NUL}b{NUL}",
    "\n",
    "\n\n\nthree before and after\n\n\n",
    "\r",
    "\r\nCRLF\r\n",
    "a\nb\rc\r\nd\n\re\x0bf\x0cg\x85h\u2028i\u2029j",
    "&#13;&#10;&#xD;\r&#13;\r",
    " \t  leading, \t inner and trailing \u00a0\u3000 \t ",
    " ",
    "w" * 100_000,
    "\u200d".join("w" * 5000),
    f"<script>{DO}</script>" + "a word and " * 80_000 + f"<script>{DO}</script>",
    # With spaces: side by side, marks of one script make a single glyph, and no line can break in it.
    " ".join(
        map(chr, [*range(0x3000), *range(0x3000, 0xD800, 16), *range(0xE000, 0xFFF0, 16), *range(0xFFF0, 0x10000)])
    ),
    "".join(chr(one) for one in range(0x10000, 0x110000) if not one % 64 or one & 0xFFFF > 0xFFFD),
)
"""Is text even to HTML, but for the two that are very long."""
MESSAGES = (*RUNNING, *MARKUP, *TEXTS)


@pytest.fixture(scope="module")
def devtools() -> Iterator[str]:
    """A browser for all tests of this module."""
    with running_chromium() as url:
        yield url


@pytest.fixture
async def browser(devtools: str) -> AsyncIterator[Browser]:
    async with connected(devtools) as browser:
        yield browser


def amiss(visit: Visit, harmless: Visit, url: str, message: str) -> dict[str, object]:
    """Return what a visit has shown that it must not, by name: nothing where the message was text."""
    look, expected = visit.look, message.replace(NUL, "")
    return {
        name: evidence
        for name, evidence in {
            "text": difference(expected, look.text),
            "elements": sorted(set(look.outline) ^ set(harmless.look.outline)) or look.outline != harmless.look.outline,
            "title": look.title != harmless.look.title and look.title,
            "charset": look.charset != "UTF-8" and look.charset,
            "quirks": look.mode != "CSS1Compat" and look.mode,
            "address": look.address != url and look.address,
            "wider than the window": not look.wraps,
            "script": look.ran,
            "dialogs": visit.dialogs,
            "requests": visit.requests != [url] and visit.requests,
            "console": visit.console,
            "issues": visit.issues,
        }.items()
        if evidence
    }


def difference(expected: str, actual: str | None) -> str:
    """Return where two texts part, in words short enough for a report; empty where they are the same."""
    if actual is None or expected == actual:
        return "nothing" if actual is None else ""
    parting = next((at for at, pair in enumerate(zip(expected, actual, strict=False)) if pair[0] != pair[1]), -1)
    return f"{len(expected)} and {len(actual)} long, at {parting}: {expected[parting:][:9]!a}, {actual[parting:][:9]!a}"


async def visit_all(
    browser: Browser,
    pages: Iterable[tuple[str, str]],
    harmless: str,
    *,
    without_policy: bool = False,
    runs_script: bool = False,
) -> dict[str, dict[str, object]]:
    """Open pages, each given by its URL and message, and return by message what was amiss, where anything was."""
    template = await browser.visit(harmless, without_policy=without_policy)
    found: dict[str, dict[str, object]] = {}
    todo = list(pages)

    async def one(index: int) -> None:
        url, message = todo[index]
        visit = await browser.visit(url, without_policy=without_policy, runs_script=runs_script)
        if without_policy:
            # The policy forbids the icon; without it, a browser requests the one of the site.
            visit.requests = [one for one in visit.requests if one != str(URL(url).with_path("/favicon.ico"))]
        if wrong := amiss(visit, template, url, message):
            found[f"{message[:80]!a}"] = wrong

    await gather_limited(len(todo), AT_ONCE, one)
    return found


async def links(client: ClientSession, messages: Sequence[str], encode: Callable[[str], dict[str, Any]]) -> list[str]:
    """Create messages and return their links, in order."""
    created = [""] * len(messages)

    async def one(index: int) -> None:
        async with client.post("/", **encode(messages[index])) as response:
            answer = await response.json(content_type=None)
            assert 201 == response.status, (f"{messages[index][:80]!a}", answer)
            created[index] = answer["url"]

    await gather_limited(len(messages), AT_ONCE, one)
    return created


def as_json(message: str) -> dict[str, Any]:
    return {"json": {"message": message}}


def as_form(message: str) -> dict[str, Any]:
    return {"data": urlencode({"message": message}).encode(), "headers": FORM}


@pytest.mark.parametrize("encode", [as_json, as_form])
async def test_a_message_is_text_whatever_it_contains(
    client: ClientSession, browser: Browser, encode: Callable[[str], dict[str, Any]]
) -> None:
    """Sent as JSON or as a form: shown to the letter, with no element, script, dialog, request or violation."""
    urls = await links(client, MESSAGES, encode)

    assert {} == await visit_all(browser, zip(urls, MESSAGES, strict=True), urls[MESSAGES.index(HARMLESS)])


async def test_it_is_text_even_to_a_browser_without_the_policy(client: ClientSession, browser: Browser) -> None:
    """Escaping alone would do; the Content-Security-Policy is there for the day when it does not."""
    messages = (HARMLESS, *RUNNING, *MARKUP)
    urls = await links(client, messages, as_json)

    assert {} == await visit_all(browser, zip(urls, messages, strict=True), urls[0], without_policy=True)


@asynccontextmanager
async def unescaped() -> AsyncIterator[tuple[str, list[str], asyncio.Event]]:
    """Serve the page with the mistake in it; yields its address, the paths asked for, and when it was a favicon."""
    paths: list[str] = []
    asked_for_icon = asyncio.Event()

    async def serve(request: web.Request) -> web.Response:
        paths.append(request.path_qs)
        kind, _, number = request.path[1:].partition("/")
        if not number.isdecimal():
            if kind == "favicon.ico":
                asked_for_icon.set()
            raise web.HTTPNotFound
        message, now = MESSAGES[int(number)], datetime.now(UTC)
        page = message_page(MessageAnswer(message=message, created_at=now, expires_at=now), ENGLISH, BRAND)
        if kind == "right":
            return page_response(page)
        before, after = page.body.partition("<pre ")[0], page.body.rpartition("</pre>")[2]
        response = page_response(replace(page, body=f"{before}<pre>\n{message}</pre>{after}"))
        if kind == "latin":
            response.headers["Content-Type"] = "text/html; charset=windows-1252"
        if kind == "free":
            del response.headers["Content-Security-Policy"]
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", paths, asked_for_icon
    finally:
        await runner.cleanup()


async def test_these_checks_catch_a_page_that_does_not_escape(browser: Browser) -> None:
    """Without escaping the policy stops every script and is seen to; without the policy as well each script runs."""
    # Each in one of the two ways is enough, and a few in both.
    under_policy = (*RUNNING[:8], *MARKUP)
    async with unescaped() as (address, _, _):
        harmless = f"{address}/right/{MESSAGES.index(HARMLESS)}"

        def pages(kind: str, messages: Iterable[str]) -> list[tuple[str, str]]:
            return [(f"{address}/{kind}/{MESSAGES.index(message)}", message) for message in messages]

        blocked = await visit_all(browser, pages("wrong", under_policy), harmless)
        free = await visit_all(browser, pages("free", RUNNING), harmless, runs_script=True)
        latin = await visit_all(browser, pages("latin", ["ï»¿<b> þÿ<b> ÿþ<b>"]), harmless)

    assert set() == {f"{message[:80]!a}" for message in under_policy} - set(blocked)
    kinds = {name for wrong in blocked.values() for name in wrong}
    assert {"text", "elements", "address", "requests", "console", "issues"} <= kinds
    assert set() == {"script", "dialogs"} & kinds
    assert len(RUNNING) == len(free)
    assert {} == {message: wrong for message, wrong in free.items() if not {"script", "dialogs"} <= set(wrong)}
    # The title, because there is a · in it.
    assert [["charset", "elements", "text", "title"]] == [sorted(wrong) for wrong in latin.values()]


async def test_a_browser_asks_for_the_page_and_for_no_icon(browser: Browser) -> None:
    """Under the policy it does not ask for /favicon.ico, and does not report that as a violation; else it would."""
    number = MESSAGES.index(HARMLESS)
    async with unescaped() as (address, paths, asked_for_icon):
        under_policy = f"{address}/right/{number}"
        assert {} == await visit_all(browser, [(under_policy, HARMLESS)] * 3, under_policy)
        assert [f"/right/{number}"] * 4 == paths

        await browser.visit(f"{address}/free/{number}")
        await asyncio.wait_for(asked_for_icon.wait(), PATIENCE)


def curl(*arguments: str) -> tuple[str, str]:
    """Run curl and return the answer's content type and text."""
    command = ["curl", "--silent", "--show-error", "--write-out", "\n%{content_type}", *arguments]
    text, _, content_type = (
        subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE).stdout.decode().rpartition("\n")
    )
    return content_type, text


@pytest.mark.parametrize("data", ['{"message": "<b>&amp; \\u00e9"}', "message=%3Cb%3E%26amp;+%C3%A9"])
async def test_curl_opens_the_same_link_as_json(stack: RunningStack, browser: Browser, data: str) -> None:
    """The two lines of the tour: a link that curl opens as JSON, and a browser as a page."""
    content_type, created = await asyncio.to_thread(curl, stack.url, "--data", data)
    url = json.loads(created)["url"]
    read_type, read = await asyncio.to_thread(curl, url)
    shown = await browser.visit(url)

    assert ("application/json", "application/json") == (content_type, read_type)
    assert ["<b>&amp; é"] * 2 == [json.loads(read)["message"], shown.look.text]
