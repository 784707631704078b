"""The languages of the page: every file of `src/pages/messages` is complete, translated and used; who gets which."""

import ast
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, make_mocked_request

from src.pages.assets import STATIC
from src.pages.branding import read_brand
from src.pages.languages import MESSAGES, language_of, read_languages
from src.pages.problem_page import SIGN_IN_KINDS, problem_page
from src.pages.templates import HTML
from src.settings import Settings

from .test_pages import BROWSER, view

PAGES = MESSAGES.parent
DOCUMENTATION = Path(__file__).parents[1] / "docs" / "pages.md"
Texts = dict[str, dict[str, str]]
Client = TestClient[web.Request, web.Application]

BRAND = read_brand(Settings(_env_file=None))
FILES: dict[str, Texts] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in MESSAGES.glob("*.json")}
ENGLISH = FILES["en"]
FORMS = ("zero", "one", "two", "few", "many", "other")
# The plural forms of whole numbers up to 100 in the languages of CLDR 48 that are most likely to be added. `other` is
# the form for all numbers without one of their own. tests/browser compares those in use with a browser.
PLURALS = {
    **dict.fromkeys(("id", "ja", "ko", "ms", "th", "vi", "zh"), ("other",)),
    **dict.fromkeys(
        (
            *("bg", "ca", "da", "de", "el", "en", "es", "et", "eu", "fa", "fi", "fr", "hi", "hu", "it", "nb", "nl"),
            *("pt", "sq", "sv", "sw", "ta", "tr", "ur"),
        ),
        ("one", "other"),
    ),
    **dict.fromkeys(("be", "pl", "ru", "uk"), ("one", "few", "many", "other")),
    **dict.fromkeys(("bs", "cs", "hr", "lt", "ro", "sk", "sr"), ("one", "few", "other")),
    **dict.fromkeys(("he",), ("one", "two", "other")),
    **dict.fromkeys(("sl",), ("one", "two", "few", "other")),
    **dict.fromkeys(("lv",), ("zero", "one", "other")),
    **dict.fromkeys(("ga",), ("one", "two", "few", "many", "other")),
    **dict.fromkeys(("ar", "cy"), FORMS),
}
# Words that may be the same as in English: names, and what a language has in common with it.
SAME_IN = {
    "de": {"Body", "Passkeys", "Text", "Version", "optional"},
    "fr": {"Administration", "Invitations", "Message", "Secret", "Service", "Sessions", "Version", "{n} minutes"},
}
SAME = {"API", "QR"}


def plural_stems(texts: dict[str, str]) -> set[str]:
    """Return the keys of the texts that depend on a number, without their forms."""
    return {key.removesuffix("_other") for key in texts if key.endswith("_other")}


def faults(code: str, texts: Texts) -> Iterator[str]:
    """Yield each fault of a file of texts, compared with the English one."""
    if set(texts) != set(ENGLISH):
        yield f"the parts are {', '.join(texts)}"
    for part, english in ENGLISH.items():
        stems = plural_stems(english)
        plurals = {f"{stem}_{form}": stem for stem in stems for form in PLURALS[code]}
        singles = {key for key in english if key.rpartition("_")[0] not in stems}
        translated = texts.get(part, {})
        yield from (f"{part}: {key} is missing" for key in sorted((singles | set(plurals)) - set(translated)))
        yield from (f"{part}: {key} is unknown" for key in sorted(set(translated) - singles - set(plurals)))
        for key, text in translated.items():
            original = english.get(key) or english.get(f"{plurals.get(key)}_other", "")
            yield from (f"{part}: {key} {fault}" for fault in faults_of(code, text, original))


def faults_of(code: str, text: str, original: str) -> Iterator[str]:
    """Yield each fault of a text."""
    names, wanted = (set(re.findall(r"\{\w+\}", one)) - {"{n}"} for one in (text, original))
    if not text.strip() or text != text.strip():
        yield "is empty or begins or ends with a space"
    if names != wanted or re.sub(r"\{\w+\}", "", text).strip("{}") != re.sub(r"\{\w+\}", "", text):
        yield f"has the placeholders {sorted(names)}, not {sorted(wanted)}"
    if "{n}" in text and "{n}" not in original:
        yield "has a number"
    has_words = re.search("[A-Za-z]{2}", re.sub(r"\{\w+\}", "", text))
    may_be_same = code == "en" or re.sub(r"\d+", "{n}", text) in SAME | SAME_IN.get(code, set())
    if text == original and has_words and not may_be_same:
        yield "is not translated"


@pytest.mark.parametrize("code", sorted(FILES))
def test_a_language_is_complete_and_translated(code: str) -> None:
    """Exactly the texts of English with the same placeholders, in the plural forms of CLDR, and none in English."""
    assert [] == list(faults(code, FILES[code]))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda texts: texts["html"].pop("open"), "html: open is missing"),
        (lambda texts: texts.pop("problems"), "problems: busy_next is missing"),
        (lambda texts: texts["script"].update(opn="Öffnen"), "script: opn is unknown"),
        (lambda texts: texts["secret"].update(shown_left_few="Noch {n}"), "secret: shown_left_few is unknown"),
        (lambda texts: texts["secret"].pop("shown_left_one"), "secret: shown_left_one is missing"),
        (lambda texts: texts["html"].update(open=ENGLISH["html"]["open"]), "html: open is not translated"),
        (lambda texts: texts["html"].update(open=" "), "html: open is empty or begins or ends with a space"),
        (lambda texts: texts["html"].update(open="Öffnen {n}"), "html: open has a number"),
        (
            lambda texts: texts["script"].update(message_until="Verfügbar bis {zeit}."),
            "script: message_until has the placeholders ['{zeit}'], not ['{time}']",
        ),
        (
            lambda texts: texts["script"].update(message_until="Verfügbar bis bald."),
            "script: message_until has the placeholders [], not ['{time}']",
        ),
    ],
)
def test_each_fault_is_found(change: Any, fault: str) -> None:
    """The test above finds a text that is missing, unknown, in English, or has other placeholders or forms."""
    texts = deepcopy(FILES["de"])
    change(texts)

    assert fault in list(faults("de", texts))


class Sources:
    """The words of the code that uses texts: whole keys, and prefixes to which the code adds a word."""

    def __init__(self, *paths: Path) -> None:
        self.words: set[str] = set()
        self.prefixes: set[str] = set()
        for path in paths:
            read = {".py": self._read_python, ".js": self._read_script, ".html": self._read_template}
            read[path.suffix](path.read_text(encoding="utf-8"))

    def use(self, key: str) -> bool:
        """Tell whether the code uses a key: as it is, as a form or part of a key, or with a prefix."""
        stem = re.sub(rf"_({'|'.join(FORMS)})$", "", key)
        return any(
            word in self.words or any(word.removeprefix(one) in self.words for one in self.prefixes if one in word)
            for word in {key, stem, re.sub(r"_(title|text|next)$", "", stem)}
        )

    def _read_python(self, text: str) -> None:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant):
                self.words.add(str(node.value))
            if isinstance(node, ast.JoinedStr) and isinstance(first := node.values[0], ast.Constant):
                self._add_prefix(str(first.value))

    def _read_script(self, text: str) -> None:
        self.words |= set(re.findall(r'"(\w+)"', text))
        self.words |= set(re.findall(r"[{,] (\w+):", text))
        for prefix in re.findall(r"`(\w+)\$\{", text):
            self._add_prefix(prefix)

    def _read_template(self, text: str) -> None:
        self.words |= set(re.findall(r"\{\{(\w+)\}\}", text))

    def _add_prefix(self, prefix: str) -> None:
        if re.fullmatch(r"[a-z]+_", prefix):
            self.prefixes.add(prefix)


SCRIPTS = [path for path in STATIC.glob("*.js") if path.name != "lean-qr.js"]
OF_SCRIPTS = Sources(*SCRIPTS, PAGES / "message_page.py", PAGES / "problem_page.py")
USERS = {
    **dict.fromkeys(ENGLISH, OF_SCRIPTS),
    "html": Sources(*HTML.iterdir(), *PAGES.glob("*.py")),
    "problems": Sources(PAGES / "problem_page.py"),
}


@pytest.mark.parametrize("part", USERS)
def test_every_text_is_used(part: str) -> None:
    """A template, a script or a module of the page uses it."""
    assert [] == [key for key in ENGLISH[part] if not USERS[part].use(key)]
    assert not USERS[part].use("no_such_text")


def test_every_text_that_a_script_names_exists() -> None:
    """The keys in calls of `t` and `showNotice`, in the texts for scripts."""
    scripts = "".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    texts = set(re.findall(r'(?<!\w)t\("(\w+)"[,)]', scripts))
    notices = set(re.findall(r'\bshowNotice\("(\w+)"[,)]', scripts))

    assert {"working", "time_left"} <= texts
    assert "incomplete" in notices
    script = read_languages()["en"].script
    assert set() == {key for key in texts if key not in script and f"{key}_other" not in script}
    assert set() == {key for key in notices if f"{key}_title" not in script}


def test_every_error_page_is_used() -> None:
    """Each page for errors is that of a status or of a code."""
    english = read_languages()["en"]
    shown = {problem_page(english, BRAND, status, "").title for status in range(400, 512)}
    shown |= {problem_page(english, BRAND, 400, "", code).title for code in SIGN_IN_KINDS}

    assert {text for key, text in english.problems.items() if key.endswith("_title")} <= shown


def test_the_documentation_lists_the_languages() -> None:
    """Each by its own name, in the order of the menu."""
    section = DOCUMENTATION.read_text(encoding="utf-8").partition("\n## Languages\n")[2].partition("\n## ")[0]

    assert [texts["html"]["language"] for _, texts in sorted(FILES.items())] == re.findall(r"\*\*(\w+)\*\*", section)


@pytest.mark.parametrize(
    ("query", "cookie", "accepted", "code"),
    [
        ("", "", "fr", "fr"),
        ("", "lang=de", "fr", "de"),
        ("lang=es", "lang=de", "fr", "es"),
        ("lang=xx", "lang=de", "fr", "de"),
        ("lang=", "lang=../de", "fr", "fr"),
        ("lang=%00%ff", "a=b;lang=zh; lang=de", "fr", "zh"),
        ("", "xlang=de; slang=es", "fr", "fr"),
        ("lang=de&lang=es", "", "fr", "de"),
    ],
)
def test_the_menu_wins_over_the_browser(query: str, cookie: str, accepted: str, code: str) -> None:
    """The language of the URL, then that of the cookie with the longest path, then `Accept-Language`."""
    headers = {"Cookie": cookie, "Accept-Language": accepted}

    assert code == language_of(make_mocked_request("GET", f"/s?{query}", headers=headers), FILES)


async def test_the_menu_works_without_scripts(client: Client) -> None:
    """Links to the same page in each language by its own name; the choice is remembered for 1 year, without an id."""
    page = await view(client, "/s")
    links = re.findall(r'<a href="(\?lang=(\w+))" lang="(\w+)"( aria-current="true")?>(\w+)</a>', page)
    answer = await client.get(f"/s{links[0][0]}", headers=BROWSER)

    assert [(code, code, FILES[code]["html"]["language"]) for code in sorted(FILES)] == [
        (code, lang, name) for _, code, lang, _, name in links
    ]
    assert ["en"] == [code for _, code, _, current, _ in links if current]
    assert f'<html lang="{links[0][1]}">' in await answer.text()
    remembered = answer.headers["Set-Cookie"].partition(";")[0]
    assert [f"lang={links[0][1]}; Max-Age=31536000; SameSite=Lax"] == answer.headers.getall("Set-Cookie")
    assert "Accept, Accept-Language, Cookie" == answer.headers["Vary"]
    assert "no-store, no-transform" == answer.headers["Cache-Control"]
    answer = await client.get("/r", headers={**BROWSER, "Cookie": remembered})
    assert f'<html lang="{links[0][1]}">' in await answer.text()


@pytest.mark.parametrize("path", ["/s", "/s?lang=xx", "/s/?lang=de", f"/secrets/{'A' * 43}?lang=de", "/hello?lang=de"])
async def test_no_other_response_sets_a_cookie(client: Client, path: str) -> None:
    """Neither without a choice, nor below the root, where the cookie would apply to other paths."""
    answer = await client.get(path, headers=BROWSER)

    assert "Set-Cookie" not in answer.headers


async def test_errors_are_in_the_remembered_language(client: Client) -> None:
    """Pages without a menu follow the cookie as well."""
    answer = await client.get("/unknown", headers={**BROWSER, "Cookie": "lang=de"})

    assert 404 == answer.status
    assert '<html lang="de">' in await answer.text()
