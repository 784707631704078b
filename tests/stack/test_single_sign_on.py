"""Sign-in with the provider of the npm package oidc-provider, in Chromium, through TLS and four workers."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pymongo
import pytest
from playwright.sync_api import Browser, Page

from bench.running_stack import free_port, running_stack

from ..browser.chromium import PATIENCE, running_chromium
from .conftest import KEYS
from .mongod import Mongod
from .npm import install_package
from .test_proxies import TRUSTED, running_proxy

pytestmark = pytest.mark.stack

DATABASE = "single_sign_on"
CLIENT_SECRET = "a secret of/the client"


@dataclass
class NodeProvider:
    """The provider, as a process that tests stop and start."""

    package: Path
    port: int
    redirect_uris: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = ["node", "provider.mjs", str(self.port), *self.redirect_uris]
        self.process = subprocess.Popen(command, cwd=self.package, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        assert "ready\n" == self.process.stdout.readline()

    def stop(self) -> None:
        """Stop it."""
        if self.process and self.process.stdout:
            self.process.terminate()
            self.process.wait(PATIENCE)
            self.process.stdout.close()
            self.process = None

    def rotate_key(self) -> None:
        """Start it again with another key, which workers accept at most once a minute."""
        self.stop()
        (self.package / "key.json").unlink()
        self.start()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProvider]:
    """A provider that the tests start."""
    provider = NodeProvider(install_package("oidc_provider", tmp_path_factory.mktemp("npm")), free_port())
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def base(provider: NodeProvider, mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a stack behind a proxy with TLS; at `/box`, it is the same stack behind a path prefix."""
    directory = tmp_path_factory.mktemp("single-sign-on")
    environment = {
        "SEALPOST_MONGO_URL": mongod.url,
        "SEALPOST_MONGO_DATABASE": DATABASE,
        "SEALPOST_KEYS": KEYS,
        "SEALPOST_TRUSTED_PROXIES": TRUSTED,
        "SEALPOST_RATE_LIMITS": "off",
        "SEALPOST_OIDC_ISSUER": f"http://127.0.0.1:{provider.port}",
        "SEALPOST_OIDC_CLIENT_ID": "sealpost",
        "SEALPOST_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "SEALPOST_OIDC_SCOPES": "openid profile email groups",
        "SEALPOST_OIDC_ALLOWED_DOMAINS": "example.org",
        "SEALPOST_OIDC_ALLOWED_GROUPS": "staff",
        "SEALPOST_OIDC_OPERATOR_GROUPS": "admins",
        "SEALPOST_OIDC_NAME": "Our school",
    }
    with (
        running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as stack,
        running_proxy(directory / "proxy", stack) as url,
    ):
        provider.redirect_uris = [f"{url}/oidc/callback", f"{url}/box/oidc/callback"]
        provider.start()
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests."""
    with running_chromium() as browser:
        yield browser


@contextmanager
def new_page(chromium: Browser) -> Iterator[Page]:
    """Open a page in a new profile."""
    context = chromium.new_context(locale="en-GB", ignore_https_errors=True)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def go_to_provider(page: Page, base: str) -> None:
    """Click the button of the provider on the page to sign in."""
    page.goto(f"{base}/signin")
    page.wait_for_selector("#enter:not([hidden])")

    assert "Our school" in page.inner_text("#provider")
    page.click("#provider")


def log_in(page: Page, name: str) -> None:
    """Log in at the provider, and consent."""
    page.fill("input[name=login]", name)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    page.wait_for_selector("text=Authorize")
    page.click("button[type=submit]")


def signed_in_name(page: Page) -> str:
    """Return the name in the menu of the page."""
    page.wait_for_selector("#menu:not([hidden])")
    return page.inner_text("#menu-name")


def sign_out(page: Page) -> None:
    """Sign out in the menu."""
    page.click("#menu > summary")
    page.click("#sign-out")
    page.wait_for_selector("#sign-in:not([hidden])")


def test_users_sign_in_sign_out_and_sign_in_again(
    base: str, provider: NodeProvider, mongod: Mongod, chromium: Browser
) -> None:
    """The same account each time, also after the provider has got a new key, and behind a path prefix."""
    with new_page(chromium) as page:
        go_to_provider(page, base)
        log_in(page, "olga")
        names = [signed_in_name(page)]
        cookies = {cookie["name"]: (cookie["httpOnly"], cookie["sameSite"]) for cookie in page.context.cookies(base)}
        sign_out(page)
        # The provider still knows the user.
        go_to_provider(page, base)
        names.append(signed_in_name(page))
        sign_out(page)
        provider.rotate_key()
        go_to_provider(page, base)
        log_in(page, "olga")
        names.append(signed_in_name(page))
        sign_out(page)
        go_to_provider(page, f"{base}/box")
        names.append(signed_in_name(page))

        assert page.url.startswith(f"{base}/box/")
    assert ["olga"] * 4 == names
    assert (True, "Strict") == cookies["__Host-sealpost"]
    assert "__Host-sealpost-oidc" not in cookies
    with pymongo.MongoClient[dict[str, object]](mongod.url) as client:
        links = client[DATABASE]["oidc_links"].count_documents({})
        users = client[DATABASE]["users"].count_documents({})

    assert links == users


def test_users_whom_the_rules_exclude_are_told(base: str, chromium: Browser) -> None:
    """With a way back to the page to sign in."""
    with new_page(chromium) as page:
        go_to_provider(page, base)
        log_in(page, "eve")
        page.wait_for_selector("text=No access")
        page.click("a[href='../signin']")
        page.wait_for_selector("#enter:not([hidden])")


def test_a_user_who_cancels_is_told(base: str, chromium: Browser) -> None:
    """The provider's error is not an error of the page."""
    with new_page(chromium) as page:
        go_to_provider(page, base)
        page.click("text=Cancel")
        page.wait_for_selector("text=Not signed in")


def test_a_provider_that_is_down_is_told(base: str, provider: NodeProvider, chromium: Browser) -> None:
    """If it ends while the browser returns from it."""
    with new_page(chromium) as page:
        go_to_provider(page, base)
        log_in(page, "down")
        page.wait_for_selector("text=The identity provider is not responding")

        assert "/oidc/callback" in page.url
    provider.stop()
    provider.start()
