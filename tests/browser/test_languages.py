"""The menu of languages: the choice is remembered, and neither the key nor a text is lost."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Dialog, Route

from src.pages.languages import read_languages

from ..test_languages import FORMS, PLURALS
from .conftest import TEXT, Visitor, Visitors

pytestmark = pytest.mark.browser

LANGUAGES = read_languages()
MENU = "#languages"


def choose(visitor: Visitor, code: str) -> None:
    """Select a language in the menu, and wait for the page in it."""
    visitor.page.click(f'{MENU} a[lang="{code}"]')
    visitor.page.wait_for_selector(f'html[lang="{code}"]')


def asked(visitor: Visitor, answer: Callable[[Dialog], None]) -> list[str]:
    """Answer the dialogs of a visitor; return a list to which the types of these dialogs are added."""
    dialogs: list[str] = []

    def handle(dialog: Dialog) -> None:
        dialogs.append(dialog.type)
        answer(dialog)

    visitor.page.remove_listener("dialog", visitor.dismiss)
    visitor.page.on("dialog", handle)
    return dialogs


def test_the_key_survives_the_switch(base: str, visitors: Visitors) -> None:
    """The link stays the same and opens the text afterwards; no request contains the key or its fragment."""
    visitor = visitors.new()
    link, _ = visitor.share(base, TEXT)
    reader = visitors.new()
    reader.goes(link, "waiting")
    choose(reader, "de")
    reader.sees("waiting")

    assert link == reader.page.url
    assert LANGUAGES["de"].html["waiting_title"] == reader.text("#waiting h1")
    reader.page.click("#open")
    reader.sees("shown")
    assert TEXT == reader.page.text_content("#text")
    fragment = link.partition("#")[2]
    assert [] == [one for one in reader.sent if fragment in one or fragment[-40:] in one]


def test_the_choice_is_remembered(base: str, visitors: Visitors) -> None:
    """On all views, in a cookie of the service for 1 year that contains only the language."""
    visitor = visitors.new(locale="fr-FR")
    visitor.goes(f"{base}/", "write")
    choose(visitor, "de")
    visitor.goes(f"{base}/r", "receipts")
    (cookie,) = visitor.context.cookies()
    days = (cookie["expires"] - visitor.page.evaluate("Date.now() / 1000")) / 86400

    assert "de" == visitor.page.get_attribute("html", "lang")
    assert ("lang", "de", "/", "Lax") == (cookie["name"], cookie["value"], cookie["path"], cookie["sameSite"])
    assert 364 < days <= 365
    choose(visitor, "fr")
    assert ["fr"] == [one["value"] for one in visitor.context.cookies()]
    assert f"{base}/r" == visitor.page.url


def test_the_menu_works_without_scripts(base: str, visitors: Visitors) -> None:
    """Its links select the language, and the server remembers it in the same cookie."""
    visitor = visitors.new(java_script_enabled=False)
    visitor.page.goto(f"{base}/s")
    names = visitor.page.locator(f"{MENU} a").all_inner_texts()
    visitor.page.click(f"{MENU} a:text('Deutsch')")
    visitor.page.goto(f"{base}/r")

    assert [language.name for language in LANGUAGES.values()] == names
    assert "de" == visitor.page.get_attribute("html", "lang")
    assert [("lang", "de", "/", "Lax")] == [
        (one["name"], one["value"], one["path"], one["sameSite"]) for one in visitor.context.cookies()
    ]


def test_a_typed_text_is_not_lost_without_asking(base: str, visitors: Visitors) -> None:
    """The browser asks; who stays keeps the text, and who leaves gets the language."""
    visitor = visitors.new()
    visitor.goes(f"{base}/", "write")
    dialogs = asked(visitor, lambda dialog: dialog.dismiss())
    visitor.page.fill("#text", TEXT)
    visitor.page.click(f'{MENU} a[lang="de"]')
    visitor.page.wait_for_function("document.cookie === 'lang=de'")

    assert (["beforeunload"], TEXT) == (dialogs, visitor.page.input_value("#text"))
    assert "en" == visitor.page.get_attribute("html", "lang")
    visitor.page.fill("#text", "")
    choose(visitor, "es")
    assert ["beforeunload"] == dialogs


def test_a_typed_password_is_not_lost_without_asking(base: str, visitors: Visitors) -> None:
    """Also while opening."""
    link, _ = visitors.new().share(base, TEXT, phrase="old friend")
    reader = visitors.new()
    reader.goes(link, "waiting")
    dialogs = asked(reader, lambda dialog: dialog.dismiss())
    reader.page.fill("#phrase", "old friend")
    reader.page.click(f'{MENU} a[lang="de"]')
    reader.page.wait_for_function("document.cookie === 'lang=de'")
    reader.page.click("#open")
    reader.sees("shown")

    assert (["beforeunload"], TEXT) == (dialogs, reader.page.text_content("#text"))


def test_the_menu_is_hidden_where_leaving_loses_something(base: str, visitors: Visitors) -> None:
    """Beside a new link and an opened text, and while a text is being opened or shared."""
    visitor = visitors.new()
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method == "POST":
            held.append(route)
        else:
            route.continue_()

    visitor.page.route("**/generate", hold)
    visitor.page.route("**/secrets/*", hold)

    def is_hidden_until_answered(button: str, section: str) -> None:
        with visitor.page.expect_request(lambda request: request.method == "POST"):
            visitor.page.click(button)
        assert not visitor.page.is_visible(MENU)
        held.pop().continue_()
        visitor.sees(section)
        assert not visitor.page.is_visible(MENU)

    visitor.goes(f"{base}/", "write")
    assert visitor.page.is_visible(MENU)
    visitor.page.fill("#text", TEXT)
    is_hidden_until_answered("#create", "result")
    link = visitor.page.input_value("#link")
    visitor.page.click("#copy-receipt")
    visitor.page.click("#again")
    visitor.sees("write")
    assert visitor.page.is_visible(MENU)
    visitor.goes(link, "waiting")
    assert visitor.page.is_visible(MENU)
    is_hidden_until_answered("#open", "shown")


def test_without_cookies_the_address_selects_the_language(base: str, visitors: Visitors) -> None:
    """With its key, which is not sent."""
    link, _ = visitors.new().share(base, TEXT)
    reader = visitors.new()
    reader.context.add_init_script("Object.defineProperty(document, 'cookie', {get: () => '', set: () => {}})")
    reader.goes(link, "waiting")
    for code in ("de", "fr"):
        choose(reader, code)
        reader.sees("waiting")

        assert f"?lang={code}#{link.partition('#')[2]}" == reader.page.url.rpartition("/s")[2]
    assert TEXT == reader.open(reader.page.url)
    assert [] == [one for one in reader.sent if link.partition("#")[2] in one]


def test_the_table_of_plural_forms_is_that_of_the_browser(base: str, visitors: Visitors) -> None:
    """For each language that the browser knows, and all whole numbers up to 100."""
    page = visitors.new().page
    known = page.evaluate(
        """codes => codes.filter(code => Intl.PluralRules.supportedLocalesOf(code).length).map(code => {
             const rules = new Intl.PluralRules(code);
             return [code, [...new Set(Array.from({length: 101}, (_, number) => rules.select(number)))]];
           })""",
        list(PLURALS),
    )

    assert set(LANGUAGES) <= {code for code, _ in known}
    assert {code: set(PLURALS[code]) for code, _ in known} == {code: {*forms, "other"} for code, forms in known}
    assert set(FORMS) == {form for forms in PLURALS.values() for form in forms}
