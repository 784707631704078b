"""Encryption in the browser: what is sent, which clients can open it, and the fallback without Web Crypto."""

import asyncio
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo import MongoClient

from bench.running_stack import RunningStack
from src.client.envelopes import read_fragment, write_base64

from ..stack.conftest import grep_logs
from ..stack.mongod import Mongod
from .conftest import PHRASE, TEXT, Visitors, needs_request_bodies

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]


@needs_request_bodies
def test_neither_text_nor_key_nor_phrase_is_sent(
    base: str, stack: RunningStack, mongod: Mongod, visitors: Visitors
) -> None:
    """They appear in no request of sender or reader, no log and no document of the database."""
    text, phrase = "unmistakable-text-4711", "unmistakable-phrase-0815"
    sender, reader = visitors.new(), visitors.new()
    link, receipt_link = sender.share(base, text, phrase=phrase, opens=2)
    reader.page.goto(link)
    reader.sees("waiting")
    reader.page.fill("#phrase", phrase)
    reader.page.click("#open")
    reader.sees("shown")
    sender.page.goto(receipt_link)
    sender.sees("receipt")

    fragment = link.partition("#")[2]
    key = read_fragment(fragment).fragment_key
    hidden = ["unmistakable", fragment, fragment[46:85], write_base64(key), key.hex()]
    sent = "\n".join(sender.sent + reader.sent)
    with MongoClient[dict[str, Any]](mongod.url) as database:
        stored = b"".join(
            bson.encode(document)
            for name in database["sealpost"].list_collection_names()
            for document in database["sealpost"][name].find()
        )
    assert "sealpost-text-1." in sent
    assert "envelope" in stored.decode("latin-1")
    assert [] == [word for word in hidden if word in sent]
    assert [] == [word for word in [*map(str.encode, hidden), key] if word in stored]
    # Playwright's event loop already runs in this thread.
    with ThreadPoolExecutor() as threads:
        assert [] == threads.submit(asyncio.run, grep_logs(stack, *hidden)).result()


def client(base: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the terminal client."""
    environment = {"PATH": "/usr/bin:/bin", "SEALPOST_URL": base, **variables}
    return subprocess.run(
        [sys.executable, "-m", "src.client", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_page_and_terminal_speak_the_same_format(base: str, visitors: Visitors) -> None:
    """Each opens the secrets and messages of the other, with and without a password."""
    visitor = visitors.new()
    link, _ = visitor.share(base, TEXT)
    with_phrase, _ = visitor.share(base, TEXT, phrase=PHRASE)
    message, _ = visitor.share(base, TEXT, kind="message")

    assert [TEXT] * 3 == [
        client(base, "open", link).stdout,
        client(base, "open", with_phrase, SEALPOST_PHRASE=PHRASE).stdout,
        client(base, "message", "show", message).stdout,
    ]
    assert TEXT == visitor.open(client(base, "share", TEXT).stdout.strip())
    visitor.page.goto(client(base, "share", TEXT, SEALPOST_PHRASE=PHRASE).stdout.strip())
    visitor.sees("waiting")
    visitor.page.fill("#phrase", PHRASE)
    visitor.page.click("#open")
    visitor.sees("shown")
    assert TEXT == visitor.page.text_content("#text")
    visitor.page.goto(client(base, "message", TEXT).stdout.strip())
    visitor.sees("shown")
    assert TEXT == visitor.page.text_content("#text")


def test_the_format_is_that_of_the_test_vectors(base: str, visitors: Visitors) -> None:
    """Fragment, envelopes and verifier match the vectors of `docs/security.md` exactly."""
    security = (ROOT / "docs" / "security.md").read_text()
    section = security.partition("### The envelope of the two ends\n")[2].partition("\n### ")[0]
    visitor = visitors.new()
    visitor.page.goto(f"{base}/")

    made = visitor.page.evaluate("""async () => {
        const assets = new URL(".", document.querySelector("script[src]").src);
        const {TEXT, deriveKeys, openText, sealText, writeFragment} = await import(new URL("envelope.js", assets));
        const {writeBase64} = await import(new URL("bytes.js", assets));
        const bytes = (begin, length) => Uint8Array.from({length}, (_, at) => begin + at);
        const [fragmentKey, nonce, text] = [bytes(0, 32), bytes(0x40, 12), "the door code is 4711"];
        const [plain, locked] = [await deriveKeys(fragmentKey), await deriveKeys(fragmentKey, "Grüße")];
        const [first, second] = [await sealText(text, plain, TEXT, nonce), await sealText(text, locked, TEXT, nonce)];
        const opened = [await openText(first, plain), await openText(second, locked)];
        if (opened.some(one => one !== text)) throw new Error("not opened");
        return [await writeFragment(writeBase64(bytes(0x20, 32)), fragmentKey), first, locked.verifier, second];
    }""")
    assert re.findall(r"(?m)^    (\S{43,})$", section) == made


# Functions of the page, and the values of the test vectors.
OF_VECTORS = """async () => {
    const assets = new URL(".", document.querySelector("script[src]").src);
    const load = name => import(new URL(name, assets));
    const {deriveKeys} = await load("envelope.js");
    const {importFileKey, newFileKey, openSegments, sealSegments, sealedSize} = await load("segments.js");
    const {openWithFiles, sealWithFiles} = await load("files_envelope.js");
    const {utf8, writeBase64} = await load("bytes.js");
    const bytes = (begin, length) => Uint8Array.from({length}, (_, at) => begin + at);
    const text = "the door code is 4711";
    const file = {name: "plans/Grüße.txt", type: "text/plain", size: 21, key: bytes(0x60, 32)};
    const keys = [await deriveKeys(bytes(0, 32)), await deriveKeys(bytes(0, 32), "Grüße")];"""


def test_files_have_the_format_of_the_test_vectors(base: str, visitors: Visitors) -> None:
    """Segments, and envelopes of texts with files, match the vectors of `docs/security.md`, and open again."""
    security = (ROOT / "docs" / "security.md").read_text()
    section = security.partition("### End-to-end encrypted files\n")[2].partition("\n### ")[0]
    page = visitors.new().page
    page.goto(f"{base}/")

    made = page.evaluate(OF_VECTORS + """
        const key = await importFileKey(file.key);
        const contents = [0, 21, 65536, 65537].map(size => Uint8Array.from({length: size}, (_, at) => at % 251));
        contents[1] = utf8(text);
        const rows = [];
        const short = [];
        for (const content of contents) {
            const sealed = await sealSegments(key, content.length, 0, content);
            const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", sealed));
            const opened = await openSegments(key, content.length, 0, sealed);
            if (sealed.length !== sealedSize(content.length)) throw new Error("size");
            if (opened.length !== content.length || opened.some((byte, at) => byte !== content[at])) throw new Error();
            rows.push([...digest].map(byte => byte.toString(16).padStart(2, "0")).join(""));
            if (content.length < 100) short.push(writeBase64(sealed));
        }
        const envelopes = [];
        for (const each of keys) {
            envelopes.push(await sealWithFiles(text, [file], each, bytes(0x40, 12)));
            const opened = await openWithFiles(envelopes.at(-1), each, [37]);
            if (JSON.stringify(opened) !== JSON.stringify({text, files: [file]})) throw new Error("not opened");
        }
        return {rows, values: [...short, ...envelopes]};
    }""")
    assert re.findall("`([0-9a-f]{64})`", section) == made["rows"]
    assert re.findall(r"(?m)^    ([A-Za-z0-9_.-]{22,})$", section) == made["values"]


def test_altered_files_are_refused(base: str, visitors: Visitors) -> None:
    """Segments that are altered, swapped or cut off, and envelopes whose files are not those of the server."""
    page = visitors.new().page
    page.goto(f"{base}/")

    outcomes = page.evaluate(OF_VECTORS + """
        const size = 3 * 65536;
        const key = await importFileKey(file.key);
        const sealed = await sealSegments(key, size, 0, new Uint8Array(size));
        const segment = at => sealed.subarray(at * 65552, (at + 1) * 65552);
        const altered = sealed.slice();
        altered[65552] ^= 1;
        const other = await importFileKey(newFileKey());
        const seal = (...files) => sealWithFiles(text, files, keys[0]);
        const attempts = {
            whole: () => openSegments(key, size, 0, sealed),
            middle: () => openSegments(key, size, 1, segment(1)),
            altered: () => openSegments(key, size, 0, altered),
            elsewhere: () => openSegments(key, size, 0, segment(1)),
            ended: () => openSegments(key, 2 * 65536, 0, sealed.subarray(0, 2 * 65552)),
            cut: () => openSegments(key, size, 0, sealed.subarray(0, 65551)),
            otherKey: () => openSegments(other, size, 0, sealed),
            listed: async () => openWithFiles(await seal(file), keys[0], [37]),
            fewer: async () => openWithFiles(await seal(file), keys[0], []),
            otherSize: async () => openWithFiles(await seal(file), keys[0], [38]),
            shortKey: async () => openWithFiles(await seal({...file, key: bytes(0, 31)}), keys[0], [37]),
            nameless: async () => openWithFiles(await seal({...file, name: undefined}), keys[0], [37]),
            otherPassword: async () => openWithFiles(await seal(file), keys[1], [37]),
        };
        const outcomes = {};
        for (const [name, attempt] of Object.entries(attempts)) {
            outcomes[name] = await attempt().then(() => "opened", error => error.constructor.name);
        }
        return outcomes;
    }""")
    opened = {"whole", "middle", "listed"}
    assert outcomes == {name: "opened" if name in opened else "NotOpened" for name in outcomes}


def test_over_plain_http_nothing_is_sent_unasked(base: str, visitors: Visitors) -> None:
    """The page says that it cannot encrypt, and lets the server do so only after the user has ticked a box."""
    plain = base.replace("127.0.0.1", "plain.test")
    visitor = visitors.new()
    visitor.page.goto(plain)
    visitor.page.fill("#text", TEXT)
    visitor.page.click("#create")

    assert visitor.page.is_visible("#plain")
    assert "this browser." not in visitor.text("body")
    assert "Nothing was sent" in visitor.text("#server-side-problem")
    assert [] == [path for path in visitor.paths() if path.startswith("POST")]
    visitor.page.check("#server-side")
    visitor.page.click("#create")
    visitor.sees("result")
    assert visitor.page.is_visible("#result-plain")
    link = visitor.page.input_value("#link")
    assert "/secrets/" in link
    assert TEXT == visitor.open(link)
    assert "never sent to the server" not in visitor.text("body")
    encrypted = client(base, "share", TEXT).stdout.strip().replace("127.0.0.1", "plain.test")
    visitor.page.goto(encrypted)
    visitor.sees("notice")
    assert "Secure connection required" == visitor.text("#notice-title")
