"""Passkeys on the page, with a virtual authenticator of Chromium."""

from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import CDPSession, expect

from .chromium import PATIENCE
from .conftest import BROWSER, Visitor, Visitors
from .users import PASSWORD, access_token, is_shown_as, is_signed_out, register, request, sign_in, sign_out

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER == "firefox", reason="Playwright has no virtual authenticator for Firefox"),
]
REFUSED = "This passkey was not accepted."
# As a page of another site with a similar name would: the challenge is right, the origin is not.
ELSEWHERE = """async options => {
    const bytes = text =>
        Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), one => one.charCodeAt(0));
    const text = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer)))
        .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    const publicKey = {...options, challenge: bytes(options.challenge)};
    const {id, type, response} = await navigator.credentials.get({publicKey});
    return {id, rawId: id, type, clientExtensionResults: {}, response: {
        clientDataJSON: text(response.clientDataJSON), authenticatorData: text(response.authenticatorData),
        signature: text(response.signature), userHandle: text(response.userHandle)}};
}"""


@dataclass
class Authenticator:
    """A device with passkeys, for one page."""

    session: CDPSession
    id: str

    @classmethod
    def of(cls, visitor: Visitor) -> "Authenticator":
        """Give a visitor a device that verifies the user."""
        session = visitor.context.new_cdp_session(visitor.page)
        session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
        }
        return cls(session, session.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"])

    def credentials(self) -> list[dict[str, Any]]:
        """Return the passkeys of the device, with their private keys."""
        answer = self.session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})
        return list(answer["credentials"])

    def replace(self, credential: dict[str, Any]) -> None:
        """Replace a passkey, for example by an older copy."""
        named = {"authenticatorId": self.id, "credentialId": credential["credentialId"]}
        self.session.send("WebAuthn.removeCredential", named)
        self.session.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": credential})

    def verify_users(self, *, is_verified: bool) -> None:
        """Set whether the device recognizes its user."""
        self.session.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": is_verified})


@pytest.fixture
def named(base: str) -> str:
    """The URL of the stack with a host name: passkeys belong to a name, not to an address."""
    return base.replace("127.0.0.1", "localhost")


@pytest.fixture
def visitor(visitors: Visitors) -> Visitor:
    """A visitor whose browser does not suggest passkeys by itself, which would sign in as soon as the view is shown."""
    visitor = visitors.new()
    visitor.page.add_init_script(
        "if (globalThis.PublicKeyCredential) PublicKeyCredential.isConditionalMediationAvailable = async () => false"
    )
    return visitor


def add_passkey(visitor: Visitor, base: str, name: str) -> None:
    """Add a passkey to the account of the visitor."""
    visitor.goes(f"{base}/account", "account")
    before = visitor.page.locator("#passkeys li").count()
    visitor.page.fill("#passkey-name", name)
    visitor.page.click("#add-passkey")
    expect(visitor.page.locator("#passkeys li")).to_have_count(before + 1, timeout=PATIENCE)


def use_passkey(visitor: Visitor, base: str) -> None:
    """Ask to sign in with a passkey."""
    visitor.page.goto(f"{base}/signin")
    visitor.sees("enter")
    visitor.page.click("#passkey")


def test_a_passkey_replaces_the_password(named: str, visitor: Visitor) -> None:
    """It is made, renamed, signs in without a username, and is deleted with the password."""
    authenticator, name = Authenticator.of(visitor), register(named)
    page = visitor.page
    sign_in(visitor, named, name)
    visitor.goes(f"{named}/account", "account")
    page.click("#add-passkey")
    expect(page.locator("#passkey-problem")).to_have_text("Enter a name.", timeout=PATIENCE)
    add_passkey(visitor, named, "Laptop")
    assert 1 == len(authenticator.credentials())
    page.fill("#passkey-name", "again")
    page.click("#add-passkey")
    expect(page.locator("#passkey-problem")).to_contain_text("already has a passkey", timeout=PATIENCE)
    page.locator("#passkeys button", has_text="Rename").click()
    page.fill("#ask-name", "Old laptop")
    page.click("#ask-yes")
    expect(page.locator("#passkeys bdi")).to_have_text("Old laptop", timeout=PATIENCE)
    sign_out(visitor)
    use_passkey(visitor, named)
    page.wait_for_url(lambda url: not url.endswith("/signin"))
    is_shown_as(visitor, name)
    visitor.goes(f"{named}/account", "account")
    assert "Last used" in visitor.text("#passkeys li")
    page.locator("#passkeys button", has_text="Delete").click()
    page.fill("#ask-password", PASSWORD)
    page.click("#ask-yes")
    expect(page.locator("#passkeys li")).to_have_count(0, timeout=PATIENCE)
    sign_out(visitor)
    use_passkey(visitor, named)
    expect(page.locator("#problem")).to_contain_text(REFUSED, timeout=PATIENCE)


def test_browsers_suggest_passkeys(named: str, visitors: Visitors) -> None:
    """In the field for the username: a virtual device that is always ready signs in without a click."""
    visitor, name = visitors.new(), register(named)
    Authenticator.of(visitor)
    sign_in(visitor, named, name)
    add_passkey(visitor, named, "Laptop")
    visitor.context.clear_cookies()
    visitor.page.evaluate("localStorage.clear()")
    visitor.page.goto(f"{named}/signin")
    visitor.page.wait_for_url(lambda url: not url.endswith("/signin"))
    is_shown_as(visitor, name)


def test_a_cloned_device_is_refused(named: str, visitor: Visitor) -> None:
    """A copy whose counter is behind that of the original cannot sign in."""
    authenticator, name = Authenticator.of(visitor), register(named)
    sign_in(visitor, named, name)
    add_passkey(visitor, named, "Laptop")
    (copy,) = authenticator.credentials()
    for _ in range(2):
        sign_out(visitor)
        use_passkey(visitor, named)
        is_shown_as(visitor, name)
    authenticator.replace(copy)
    sign_out(visitor)
    use_passkey(visitor, named)
    expect(visitor.page.locator("#problem")).to_contain_text(REFUSED, timeout=PATIENCE)
    is_signed_out(visitor)


def test_a_passkey_works_only_for_its_origin(named: str, visitor: Visitor) -> None:
    """What it signs on another port of the same host is refused here."""
    Authenticator.of(visitor)
    name = register(named)
    sign_in(visitor, named, name)
    add_passkey(visitor, named, "Laptop")
    _, asked = request(named, "POST", "login/passkey/options", body={})
    visitor.page.route(
        "http://localhost:12345/", lambda route: route.fulfill(body="<h1>Sealpost</h1>", content_type="text/html")
    )
    visitor.page.goto("http://localhost:12345/")
    credential = visitor.page.evaluate(ELSEWHERE, asked["options"])
    status, refused = request(
        named, "POST", "login/passkey", body={"challenge": asked["challenge"], "credential": credential}
    )

    assert (401, "passkey_refused") == (status, refused["code"])


def test_a_user_who_declines_is_told(named: str, visitor: Visitor) -> None:
    """Nothing is signed in or added, and the password still works."""
    authenticator, name = Authenticator.of(visitor), register(named)
    sign_in(visitor, named, name)
    add_passkey(visitor, named, "Laptop")
    authenticator.verify_users(is_verified=False)
    sign_out(visitor)
    use_passkey(visitor, named)
    expect(visitor.page.locator("#problem")).to_contain_text("No passkey was used.", timeout=PATIENCE)
    visitor.page.fill("#username", name)
    visitor.page.fill("#password", PASSWORD)
    visitor.page.keyboard.press("Enter")
    is_shown_as(visitor, name)


def test_an_account_with_passkeys_alone_is_complete(named: str, visitor: Visitor) -> None:
    """Its password is removed; then the last passkey stays, a password can be set again, and the account be deleted."""
    Authenticator.of(visitor)
    name = register(named)
    page = visitor.page
    sign_in(visitor, named, name)
    add_passkey(visitor, named, "Laptop")
    page.click("#remove-password")
    page.fill("#ask-password", PASSWORD)
    page.click("#ask-yes")
    expect(page.locator("#password-none")).to_be_visible(timeout=PATIENCE)
    assert 401 == request(named, "POST", "login", body={"username": name, "password": PASSWORD})[0]
    page.locator("#passkeys button", has_text="Delete").click()
    assert page.is_hidden("#ask-password")
    page.click("#ask-yes")
    expect(page.locator("#ask-problem")).to_contain_text("This is your last way to sign in.", timeout=PATIENCE)
    page.click("#ask-no")
    page.fill("#new-password", PASSWORD)
    page.click("#change-password")
    expect(page.locator("#current-field")).to_be_visible(timeout=PATIENCE)
    assert access_token(named, name)
    page.click("#remove-password")
    page.fill("#ask-password", PASSWORD)
    page.click("#ask-yes")
    expect(page.locator("#current-field")).to_be_hidden(timeout=PATIENCE)
    # A session that has begun long ago.
    refused = {"status": 403, "content_type": "application/problem+json", "body": '{"code": "sign_in_again"}'}
    page.route("**/me", lambda route: route.fulfill(**refused), times=1)
    page.click("#delete-account")
    page.click("#ask-yes")
    page.click("#ask-passkey")
    page.wait_for_url(f"{named}/")
    is_signed_out(visitor)
    use_passkey(visitor, named)

    expect(page.locator("#problem")).to_contain_text(REFUSED, timeout=PATIENCE)
