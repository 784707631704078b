"""The branding of the page: settings, escaping, contrast, files and headers. tests/browser shows it in a browser."""

import re
import string
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.api.pages import html_of
from src.command import main
from src.manage.doctor.configuration import Configuration
from src.pages.assets import CACHE_CONTROL, STATIC, read_assets
from src.pages.branding import DARK, LARGEST_LOGO, LIGHT, LOGO_POLICY, Brand, accent_style, contrast, read_brand
from src.pages.languages import read_languages
from src.pages.message_page import style_of
from src.pages.problem_page import problem_page
from src.pages.templates import POLICY, Templates
from src.settings import Settings, SettingsError, read_settings
from src.stack.nginx import render

from .conftest import Api
from .test_pages import BROWSER, VIEWS, rendered, view

Serve = Callable[..., Awaitable[Api]]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><script>alert(1)</script></svg>'
ASSETS = read_assets()
ACCENT = "#7a1f5c"
LINKS = "Imprint=https://example.org/imprint?a=b&c, Privacy=/privacy, Contact=mailto:a@example.org"
PRINTABLE = st.sampled_from("<>&\"'$\\%;/ ") | st.characters(exclude_categories=("C", "Z"), exclude_characters="{}")


def lines(limit: int, without: str = "") -> st.SearchStrategy[str]:
    """Return texts that a setting accepts: those with visible characters."""
    characters = PRINTABLE.filter(lambda character: character not in without)
    return st.text(characters, min_size=1, max_size=limit).filter(lambda text: bool(text.strip()))


NAMES, FOOTERS, LABELS = lines(40), lines(300), lines(40, ",=").map(str.strip)
URLS = st.builds(
    str.__add__,
    st.sampled_from(("https://e", "http://[", "mailto:", "/x")),
    st.text(string.ascii_letters + string.digits + "._~:/?#[]@!$&'()*+;=%-", max_size=60),
)


def settings(**given: Any) -> Settings:
    return Settings(_env_file=None, **given)


def templates(brand: Brand) -> Templates:
    return Templates(settings(), ASSETS, read_languages(brand.name), brand)


class Outline(HTMLParser):
    """The elements with their attributes, and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.text = ""
        self._label = ""
        self._url: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(f"{tag} {' '.join(name for name, _ in attributes)}")
        if tag == "a":
            self._url, self._label = dict(attributes).get("href"), ""

    def handle_data(self, data: str) -> None:
        self.text += data
        self._label += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.links.append((self._label, self._url or ""))


@given(NAMES, FOOTERS, st.lists(st.tuples(LABELS, URLS), max_size=3))
def test_nothing_breaks_out_of_the_page(name: str, footer: str, links: list[tuple[str, str]]) -> None:
    """A name, a text and links are shown as they are, and add no element and no attribute, in views and error pages."""
    given = ", ".join(f"{label}={url}" for label, url in links)
    plain = read_brand(settings(brand_name="x", brand_footer="x", brand_links=", ".join(["x=/x"] * len(links))))
    brand = read_brand(settings(brand_name=name, brand_footer=footer, brand_links=given))
    pages = [
        (rendered(templates(one), "create", "./"), html_of(problem_page(read_languages(one.name)["de"], one, 404, "")))
        for one in (plain, brand)
    ]

    for expected, page in zip(*pages, strict=True):
        outline = Outline(page)
        assert Outline(expected).elements == outline.elements
        assert set(links) <= set(outline.links)
        assert {name in outline.text, footer in outline.text} == {True}
    assert style_of(plain) == style_of(brand)


@given(NAMES, FOOTERS, st.lists(st.tuples(LABELS, URLS), max_size=3))
def test_nothing_breaks_out_of_the_configuration(name: str, footer: str, links: list[tuple[str, str]]) -> None:
    """The pages of nginx are quoted, contain no variable, and no part is over its limit."""
    given = ", ".join(f"{label}={url}" for label, url in links)
    brand = settings(brand_name=name, brand_footer=footer, brand_links=given)
    place = Path("/run")
    text = render(brand, listen=["80"], socket_dir=place, log_dir=place, temp_dir=place, pid_file=place)
    maps = re.findall(r'(?s)map "\$page_language \$status" \$problem_page_\d \{\n(.*?)\n    \}', text)
    parts = [dict(re.findall(r"(?m)^ +\"(\w\w \d+)\" '([^'$\\\n]*)';$", one)) for one in maps]
    page = "".join(part.get("de 404", "") for part in parts)

    assert parts
    assert [one.count("\n") for one in maps] == [len(part) for part in parts]
    assert max(len(part.encode()) for one in parts for part in one.values()) < 4000
    assert {name in Outline(page).text, footer in Outline(page).text} == {True}
    assert set(links) <= set(Outline(page).links)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("brand_name", " "),
        ("brand_name", "x" * 41),
        ("brand_name", "a\nb"),
        ("brand_name", "a\u202eb"),
        ("brand_name", "{service}"),
        ("brand_footer", "a\tb"),
        ("brand_footer", "x" * 301),
        ("brand_accent", "red"),
        ("brand_accent", "#12345"),
        ("brand_accent", "#123456;"),
        ("brand_links", "Imprint"),
        ("brand_links", "=https://example.org"),
        ("brand_links", "a=javascript:alert(1)"),
        ("brand_links", "a=data:text/html,x"),
        ("brand_links", "a=//example.org"),
        ("brand_links", "a=example.org"),
        ("brand_links", "a=https://"),
        ("brand_links", 'a=/x"onclick="x'),
        ("brand_links", "a=/x y"),
        ("brand_links", "a=/\\example.org"),
        ("brand_links", f"{'a' * 41}=/x"),
    ],
)
def test_an_unusable_value_prevents_the_start(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a message that names the setting."""
    monkeypatch.setenv(f"SEALPOST_{name.upper()}", value)

    with pytest.raises(SettingsError, match=rf"^SEALPOST_{name.upper()}: must be "):
        read_settings(_env_file=None)


def test_an_accent_that_cannot_be_read_is_refused() -> None:
    """The message says what to do, and its proposal is accepted."""
    with pytest.raises(
        SettingsError, match=r"^SEALPOST_BRAND_ACCENT: .*Use a darker color, such as #\w{6}$"
    ) as refused:
        read_brand(settings(brand_accent="#ffcc00"))

    assert accent_style(str(refused.value)[-7:])


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_unusable_branding_is_reported_before_anything_starts(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command of a single process; it creates no database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALPOST_BRAND_LOGO", "missing.svg")
    code = main(arguments)

    assert 2 == code
    assert "SEALPOST_BRAND_LOGO: cannot be read: No such file or directory" in capsys.readouterr().err
    assert not (tmp_path / ".data" / "mongo").exists()


async def test_the_doctor_reports_unusable_branding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an invalid setting; the other checks go on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALPOST_BRAND_LOGO", "missing.svg")
    configuration = Configuration({})
    findings = {finding.check: finding.outcome async for finding in configuration.examine()}

    assert "SEALPOST_BRAND_LOGO: cannot be read: No such file or directory" == findings["settings"].found
    assert configuration.settings is not None


@given(st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}"))
def test_every_accent_can_be_read(accent: str) -> None:
    """Text in it has 4.5:1 on each background, light and dark, and so has text on it; or it is refused."""
    try:
        style = accent_style(accent)
    except SettingsError:
        assert min(contrast(accent, background) for background in LIGHT.values()) < 4.5
        return
    (light, on_light), (dark, on_dark) = re.findall(r"--accent:(#\w{6});--on-accent:(#\w{6})", style)

    assert accent == light
    assert min(contrast(light, background) for background in LIGHT.values()) >= 4.5
    assert min(contrast(dark, background) for background in DARK.values()) >= 4.5
    assert min(contrast(light, on_light), contrast(dark, on_dark)) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    """The figures of known pairs."""
    assert [21.0, 1.0, 4.54, 5.25] == [
        round(contrast(one, other), 2)
        for one, other in (
            ("#000000", "#ffffff"),
            ("#123456", "#123456"),
            ("#767676", "#ffffff"),
            ("#ff0000", "#000000"),
        )
    ]


def test_the_backgrounds_are_those_of_the_style() -> None:
    """`page.css` has the same colors."""
    light, dark = re.findall(r"(?s):root \{(.*?)\}", (STATIC / "page.css").read_text())

    for declared, known in ((light, LIGHT), (dark, DARK)):
        colors = {name: color for name, color in re.findall(r"--(\w+): (#\w+);", declared) if name in known}
        assert known == {
            name: color if len(color) == 7 else "#" + "".join(digit * 2 for digit in color[1:])
            for name, color in colors.items()
        }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "neither a PNG nor an SVG"),
        (b"GIF89a", "neither a PNG nor an SVG"),
        (b"<html xmlns='http://www.w3.org/1999/xhtml'/>", "neither a PNG nor an SVG"),
        (b"<svg/>", "neither a PNG nor an SVG"),
        (SVG[:-3], "neither a PNG nor an SVG"),
        (b'<?xml version="1.0" encoding="x"?>' + SVG, "neither a PNG nor an SVG"),
        (PNG + bytes(LARGEST_LOGO), "larger than 64 kB"),
        (SVG + b" " * LARGEST_LOGO, "larger than 64 kB"),
    ],
)
def test_an_unusable_logo_prevents_the_start(tmp_path: Path, content: bytes | None, fault: str) -> None:
    """Its content decides, whatever its name."""
    path = tmp_path / "logo.svg"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SettingsError, match=f"^SEALPOST_BRAND_LOGO: {fault}"):
        read_brand(settings(brand_logo=path))


@pytest.mark.parametrize(("content", "kind"), [(PNG, "image/png"), (SVG, "image/svg+xml")])
async def test_a_logo_is_served_as_an_image(serve: Serve, tmp_path: Path, content: bytes, kind: str) -> None:
    """Beside the name and as the icon, with a policy under which it runs and loads nothing."""
    path = tmp_path / "logo"
    path.write_bytes(content)
    client = (await serve(brand_logo=path)).client
    page = await view(client, "/")
    sources = set(re.findall(r'(?:<img src|rel="icon" href)="\./([^"]+)"', page))
    icon = await client.get("/favicon.ico")

    assert 1 == len(sources)
    logo = await client.get(f"/{sources.pop()}")
    for answer in (logo, icon):
        assert (kind, content) == (answer.headers["Content-Type"], await answer.read())
        assert (LOGO_POLICY, "nosniff") == (
            answer.headers["Content-Security-Policy"],
            answer.headers["X-Content-Type-Options"],
        )
    assert CACHE_CONTROL == logo.headers["Cache-Control"]
    assert {"default-src 'none'", "sandbox"} <= set(LOGO_POLICY.split("; "))
    assert "script" not in LOGO_POLICY


@pytest.mark.parametrize(
    ("content", "width"),
    [
        (PNG, 28),
        (PNG[:8] + bytes(8) + bytes([0, 0, 0, 200, 0, 0, 0, 100]), 56),
        (SVG, 28),
        (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 40,10"/>', 112),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20"/>', 42),
        (b'<svg xmlns="http://www.w3.org/2000/svg" width="3em" height="1em"/>', 28),
        (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 0"/>', 28),
        (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1.2.3 1"/>', 28),
        (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9999 1"/>', 160),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 28),
    ],
)
def test_the_space_of_a_logo_is_known_before_it_loads(tmp_path: Path, content: bytes, width: int) -> None:
    """In pixels at a height of 28, up to 160; square if the file does not tell."""
    path = tmp_path / "logo"
    path.write_bytes(content)

    assert width == read_brand(settings(brand_logo=path)).icon_width


async def test_a_branded_page_keeps_its_policy(serve: Serve) -> None:
    """The accent is a file of this server, linked only if it is set, after the style of the page."""
    client = (await serve(brand_name="Ärzte & <Söhne>", brand_accent=ACCENT, brand_links=LINKS)).client
    for path in VIEWS:
        answer = await client.get(path, headers=BROWSER)
        page = await answer.text()
        styles = re.findall(r'<link rel="stylesheet" href="[./]*(pages/[^"]+)">', page)
        assert POLICY == answer.headers["Content-Security-Policy"]
        assert ["page.css", "brand.css"] == [name.rpartition("/")[2] for name in styles][:2]
        assert " · Ärzte &amp; &lt;Söhne&gt;</title>" in page
        assert "Sealpost" not in page
        assert 'href="https://example.org/imprint?a=b&amp;c"' in page
    style = await client.get(f"/{styles[1]}")
    assert (CACHE_CONTROL, "text/css; charset=utf-8") == (style.headers["Cache-Control"], style.headers["Content-Type"])
    assert accent_style(ACCENT) == await style.text()
    refused = await client.get("/unknown", headers=BROWSER)
    assert "Ärzte &amp; &lt;Söhne&gt;" in await refused.text()


async def test_without_settings_nothing_is_added(client: Any) -> None:
    """No stylesheet, no text and no link."""
    page = await view(client, "/")

    assert "brand.css" not in page
    assert " · Sealpost</title>" in page
    assert "" == read_brand(settings()).footer_html() == read_brand(settings()).colors


@pytest.mark.parametrize("code", sorted(read_languages()))
def test_the_texts_name_the_service(code: str) -> None:
    """No text of the page names Sealpost, except its commands."""
    language = read_languages("Our Service")[code]

    for texts in (language.html, language.script, language.problems):
        assert [] == [key for key, text in texts.items() if "Sealpost" in text or "{service}" in text]
    assert "Our Service" in language.html["key_sent"]
