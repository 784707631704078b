"""Addresses, links, times: what is understood, and what is not."""

from datetime import UTC, datetime, timedelta

import pytest

from src.client.addresses import Kind, is_plain, parse_id, parse_link, parse_server_url, write_link
from src.client.durations import in_words, parse_ttl, write_future
from src.client.errors import NotSealpost, WrongUsage

KEY = "A-_z" * 10 + "abc"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("HTTPS://Secrets.Example.ORG:443", "https://secrets.example.org"),
        ("http://example.org:80/seal/", "http://example.org/seal"),
        (" http://[::1]:8080 ", "http://[::1]:8080"),
        ("\ufeffhttp://example.org\n", "http://example.org"),
        ("localhost:8080", "http://localhost:8080"),
        ("LOCALHOST:80", "http://localhost"),
        ("127.0.0.1:8080/seal/", "http://127.0.0.1:8080/seal"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("server:8080", "https://server:8080"),
        ("192.0.2.1:443", "https://192.0.2.1"),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_a_server_has_one_address(text: str, url: str) -> None:
    """However it is written, its credentials are found."""
    assert url == parse_server_url(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.org", "ftp://example.org", "http://", "http://x:99999", "http://x:0", "http://a:b@x"),
        *("http://x/?a=b", "http://x/#a", "http://x y", "http://x\n/", "http://x\\y", "http://[::1", "http://a@x"),
        *(
            "http://a..b",
            "http://.",
            f"http://{'a' * 64}.org",
            "http://%zz",
            "x:0",
            "x:99999",
            "a b:80",
            ":80",
            "[::1]",
        ),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Rather than that something is sent somewhere."""
    with pytest.raises(WrongUsage):
        parse_server_url(text)


def test_links_are_read() -> None:
    """To secrets and messages, below a path and with what a chat program appends; keys alone are links too."""
    secret, message = f"https://example.org/a/secrets/{KEY}", f"http://localhost:8080/message/{KEY}"

    links = [parse_link(text) for text in (secret, f" {message}/ ", f"{secret}?utm_source=x#y", f"\ufeff{KEY}\r\n")]

    assert ["https://example.org/a", "http://localhost:8080", "https://example.org/a", None] == [
        one.url for one in links
    ]
    assert [Kind.SECRET, Kind.MESSAGE, Kind.SECRET, None] == [link.kind for link in links]
    assert {KEY} == {link.key for link in links}
    assert KEY not in repr(links)


def test_links_to_the_page_are_read() -> None:
    """The fragment's two keys, below a path, and with what a chat program puts before it."""
    fragment_key = bytes(range(32))
    url, other = "https://example.org/a", "http://localhost:8080"
    secret = write_link(url, f"{url}/secrets/{KEY}", Kind.SECRET, fragment_key)
    message = write_link(other, f"{other}/message/{KEY}", Kind.MESSAGE, fragment_key)

    links = [parse_link(text) for text in (secret, f" {message} ", secret.replace("#", "?utm_source=x#"))]

    assert ["https://example.org/a", "http://localhost:8080", "https://example.org/a"] == [one.url for one in links]
    assert [Kind.SECRET, Kind.MESSAGE, Kind.SECRET] == [link.kind for link in links]
    assert {(KEY, fragment_key)} == {(link.key, link.fragment_key) for link in links}
    assert KEY not in repr(links)


@pytest.mark.parametrize(
    ("server", "answered", "begins"),
    [
        # A proxy speaks TLS, and the server does not know.
        ("https://example.org", "http://example.org", "https://example.org"),
        ("https://example.org/sealpost", "http://example.org", "https://example.org/sealpost"),
        ("https://example.org/sealpost", "https://example.org", "https://example.org/sealpost"),
        ("https://example.org/sealpost", "https://example.org/sealpost", "https://example.org/sealpost"),
        ("http://example.org/sealpost", "http://127.0.0.1:8080/sealpost", "http://example.org/sealpost"),
        ("http://example.org", "http://localhost:8080", "http://example.org"),
        ("https://example.org", "", "https://example.org"),
        ("https://example.org", "example.org:443", "https://example.org"),
        ("https://example.org", "https://a:b@example.org", "https://example.org"),
        # The operator has set SEALPOST_PUBLIC_URL, and creates on the server's own machine.
        ("http://127.0.0.1:8080", "https://example.org/sealpost", "https://example.org/sealpost"),
        ("http://127.0.0.1:8080", "http://localhost:8080", "http://localhost:8080"),
    ],
)
def test_a_link_is_never_worse_than_the_url_in_use(server: str, answered: str, begins: str) -> None:
    """Neither without TLS, nor without the path prefix, nor one that only works on the server's machine."""
    page = write_link(server, f"{answered}/secrets/{KEY}", Kind.SECRET, bytes(32))

    assert f"{begins}/secrets/{KEY}" == write_link(server, f"{answered}/secrets/{KEY}", Kind.SECRET, None)
    assert f"{begins}/message/{KEY}" == write_link(server, f"{answered}/message/{KEY}", Kind.MESSAGE, None)
    assert page.startswith(f"{begins}/s#1")


@pytest.mark.parametrize(
    "answered", ["", "/secrets/x", f"/message/{KEY}", f"https://x/secrets/{KEY}/", "/secrets/" + "é" * 43]
)
def test_what_is_no_link_of_a_server_is_not_shown(answered: str) -> None:
    """With a fragment key and without."""
    for fragment_key in (None, bytes(32)):
        with pytest.raises(NotSealpost, match="url is not a link"):
            write_link("https://example.org", answered, Kind.SECRET, fragment_key)


def test_plain_http_is_known() -> None:
    """What stays on this machine is not it."""
    plain = ["http://example.org", "http://192.0.2.1:8080", "http://localhost.example.org", "http://[2001:db8::1]"]
    safe = ["https://example.org", "http://localhost", "http://x.localhost:80", "http://127.8.8.8", "http://[::1]:80"]

    assert [True] * 4 + [False] * 5 == [is_plain(url) for url in plain + safe]


def test_ids_are_read() -> None:
    """In whatever case, and with dashes as other programs write them."""
    assert "01a1ff32" * 4 == parse_id("01A1FF32-01a1-ff32-01a1-ff3201a1ff32")
    with pytest.raises(WrongUsage):
        parse_id("../../me")


@pytest.mark.parametrize(
    ("text", "ttl"),
    [
        ("2h", {"hours": 2}),
        ("1d12h", {"days": 1, "hours": 12}),
        ("1D 90m", {"days": 1, "minutes": 90}),
        ("45s", {"seconds": 45}),
        ("0s", {"seconds": 0}),
    ],
)
def test_times_to_live_are_read(text: str, ttl: dict[str, int]) -> None:
    """As people write them; the server judges how long is too long."""
    assert ttl == parse_ttl(text)


@pytest.mark.parametrize("text", ["", " ", "2", "h", "2h2h", "12h1d", "-1h", "1.5h", "1w", "9999999d", "٣h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """A number without a unit above all: nobody knows what was meant."""
    with pytest.raises(WrongUsage):
        parse_ttl(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (61, "1 minute 1 second"),
        (7200, "2 hours"),
        (86399.9, "1 day"),
        (259199.5, "3 days"),
        (604799, "7 days"),
        (90000, "1 day 1 hour"),
    ],
)
def test_spans_are_written_for_people(seconds: float, words: str) -> None:
    """Rounded, and in no more than two units."""
    assert words == in_words(seconds)


def test_what_is_over_is_not_to_come() -> None:
    """A time that has passed is said to have."""
    now = datetime.now(UTC)

    assert write_future(now - timedelta(hours=1)).endswith("(past)")
    # So long that a few seconds on the way to the rounding change no word.
    assert write_future(now + timedelta(days=2)).endswith("(in 2 days)")
