"""A branded service in a browser: the stack with every setting of the branding."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from bench.running_stack import RunningStack, running_stack
from src.pages.branding import accent_style

from ..stack.conftest import KEYS, SETTINGS
from ..stack.mongod import Mongod
from .chromium import PATIENCE
from .conftest import Visitor, Visitors, created

pytestmark = pytest.mark.browser

NAME = 'Ärzte & <b>Söhne</b>\'s $HOME \\ "Box"'
ACCENT = "#7a1f5c"
LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><style>circle { fill: #7a1f5c }</style>
<circle cx="4" cy="4" r="4" onclick="alert(1)"/><script>alert(1)</script><image href="https://example.org/x.png"/></svg>"""
FOOTER = "A service of <i>the clinic</i>, 100 % local."
LINKS = [("Imprint", "https://example.org/imprint?a=1&b=2"), ("Privacy", "/privacy"), ("Mail", "mailto:a@example.org")]


@pytest.fixture(scope="module")
def branded(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    directory = tmp_path_factory.mktemp("branded")
    (directory / "logo").write_text(LOGO)
    environment = {
        **SETTINGS,
        "SEALPOST_MONGO_URL": mongod.url,
        "SEALPOST_MONGO_DATABASE": "branded",
        "SEALPOST_KEYS": KEYS,
        "SEALPOST_BRAND_NAME": NAME,
        # Relative to the working directory.
        "SEALPOST_BRAND_LOGO": "logo",
        "SEALPOST_BRAND_ACCENT": ACCENT,
        "SEALPOST_BRAND_FOOTER": FOOTER,
        "SEALPOST_BRAND_LINKS": ", ".join(f"{label}={url}" for label, url in LINKS),
    }
    with running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as running:
        yield running


def footer_links(visitor: Visitor) -> list[tuple[str, str]]:
    """Return the labels and addresses of the operator's links, as they are in the page."""
    found = visitor.page.eval_on_selector_all(
        "footer a:not([lang])", "links => links.map(link => [link.textContent, link.getAttribute('href')])"
    )
    return [(label, url) for label, url in found if (label, url) in LINKS]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_has_the_branding(branded: RunningStack, visitors: Visitors, scheme: str) -> None:
    """Name, footer and links in views, messages and errors of workers and of nginx; axe-core has nothing to say."""
    visitor = visitors.new(color_scheme=scheme)
    message = created(f"{branded.url}/", message="Lunch is at noon.")["url"]
    found = []
    for path in ("/", "/s", "/r", message.partition("//")[2].partition("/")[2].join(["/", ""]), "/unknown", "/metrics"):
        visitor.page.goto(branded.url + path)
        visitor.page.wait_for_load_state("networkidle")

        assert NAME in visitor.text("header")
        assert visitor.page.title().endswith(f" · {NAME}")
        assert FOOTER in visitor.text("footer")
        assert LINKS == footer_links(visitor)
        violations = Axe().run(visitor.page).response["violations"]
        found += [f"{path}: {one['id']}: {node['html']}" for one in violations for node in one["nodes"]]

    assert [] == found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_accent_is_that_of_the_setting(branded: RunningStack, visitors: Visitors, scheme: str) -> None:
    """The button has it in the light; in the dark, it is lightened."""
    visitor = visitors.new(color_scheme=scheme)
    visitor.goes(f"{branded.url}/", "write")
    color = visitor.page.evaluate(
        "getComputedStyle(document.querySelector('#create')).backgroundColor.match(/\\d+/g).map(Number)"
    )
    expected = accent_style(ACCENT).split("--accent:")[1 if scheme == "light" else 2][:7]

    assert expected == "#" + "".join(f"{channel:02x}" for channel in color)
    assert (ACCENT == expected) == (scheme == "light")


def test_the_logo_is_shown_and_runs_nothing(branded: RunningStack, visitors: Visitors) -> None:
    """Beside the name, and when its address is opened: the browser blocks its scripts and what it would load."""
    visitor = visitors.new()
    failures: list[str | None] = []
    visitor.page.on("requestfailed", lambda request: failures.append(request.failure))
    visitor.goes(f"{branded.url}/", "write")
    visitor.page.wait_for_function("document.querySelector('header img').naturalWidth > 0")
    visitor.page.goto(str(visitor.page.evaluate("document.querySelector('header img').src")))
    visitor.page.evaluate("document.querySelector('circle').dispatchEvent(new MouseEvent('click'))")
    # The browser may report them after it has answered.
    while len(visitor.complaints) < 3:
        visitor.page.wait_for_event("console", timeout=PATIENCE)
    complaints, visitor.complaints[:] = visitor.complaints[:], []

    assert ["csp"] == failures
    assert 3 == len(complaints)
    assert [] == [one for one in complaints if "Content Security Policy" not in one and "sandboxed" not in one]


def test_a_branded_secret_is_shared_and_opened(branded: RunningStack, visitors: Visitors, tmp_path: Path) -> None:
    """As without branding."""
    visitor = visitors.new()
    link, _ = visitor.share(branded.url, "a text")

    assert "a text" == visitors.new().open(link)
