"""A smoke test of a deployment: `python -m unittest src/tests.py`.

Serves the API on a loopback port with the settings and the MongoDB of the deployment, and sends each kind of request
once. Its collections have a unique prefix and are dropped at the end.
"""

import asyncio
import atexit
import html
import os
import secrets
import signal
import sys
import tempfile
import threading
import unittest
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from pymongo import MongoClient

from .app import build_app
from .core.crypto.keys import read_key_ring
from .core.logs import configure_logs
from .settings import FeatureName, Settings, read_settings
from .startup import mongo_url

READY_SECONDS = 60
READY_POLL_SECONDS = 0.05
ENDING_SECONDS = 5.0
OVERRIDES: Mapping[str, object] = {
    # Test messages and test requests must not reach the operator's dump and metrics.
    "gathered_file": "off",
    "metrics": "off",
    # Errors go to the terminal, not to the deployment's log.
    "log_file": None,
    "log_level": "error",
    # Requests are fast and anonymous, everyone can register, and links lead to this process.
    "rate_limits": "off",
    "anonymous_create": True,
    "registration": "open",
    "public_url": None,
}


@dataclass(frozen=True)
class Deployment:
    """The settings, the URL of MongoDB, and the prefix of the test's collections."""

    settings: Settings
    url: str
    prefix: str

    def drop_collections(self) -> None:
        """Drop the collections of the test."""
        with MongoClient[dict[str, Any]](self.url, timeoutMS=READY_SECONDS * 1000) as client:
            database = client[self.settings.mongo_database]
            for name in database.list_collection_names(filter={"name": {"$regex": f"^{self.prefix}"}}):
                database.drop_collection(name)


def end_on_signals(resources: ExitStack) -> None:
    """End on SIGINT and SIGTERM, and release the resources, within `ENDING_SECONDS`."""

    def end() -> None:
        resources.close()
        os._exit(128 + signal.SIGINT)

    def interrupt(*_: object) -> None:
        # A task can lose its cancellation (python/cpython#86296), and unittest would wait for it without a limit.
        guard = threading.Timer(ENDING_SECONDS, end)
        guard.daemon = True
        guard.start()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


class SmokeTest(unittest.IsolatedAsyncioTestCase):
    """The documented requests of the services that Sealpost replaces, each once."""

    deployment: Deployment

    @classmethod
    def setUpClass(cls) -> None:
        """Read the settings and, for a deployment that embeds MongoDB, start it."""
        resources = ExitStack()
        cls.addClassCleanup(resources.close)
        # After Ctrl-C and SIGTERM, unittest runs no class cleanups.
        atexit.register(resources.close)
        end_on_signals(resources)
        settings = read_settings(**OVERRIDES)
        if settings.mongo_url is None and not settings.data_dir.exists():
            # There is no deployment yet, and a test must not create one.
            directory = resources.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-"))
            settings = read_settings(**OVERRIDES, data_dir=Path(directory))
        read_key_ring(settings)
        configure_logs(settings, sys.stderr)
        url = resources.enter_context(mongo_url(settings))
        cls.deployment = Deployment(settings, url, f"smoke_{secrets.token_hex(8)}_")
        resources.callback(cls.deployment.drop_collections)

    async def asyncSetUp(self) -> None:
        """Serve the API and wait until it is ready."""
        app = await build_app(self.deployment.settings, self.deployment.url, prefix=self.deployment.prefix)
        runner = web.AppRunner(app, access_log=None)
        self.addAsyncCleanup(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        session = aiohttp.ClientSession(f"http://{host}:{port}")
        await self.enterAsyncContext(session)
        self.session = session
        async with asyncio.timeout(READY_SECONDS):
            while (await self.call("GET", "/readyz"))[0] != web.HTTPOk.status_code:  # noqa: ASYNC110 (over HTTP)
                await asyncio.sleep(READY_POLL_SECONDS)

    async def call(self, method: str, path: str, body: object = None, *, token: str = "") -> tuple[int, Any]:
        """Send a request; return the status of the response and its JSON, if it has a body."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.request(method, path, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None) if await answer.read() else None

    async def expect(self, status: int, method: str, path: str, body: object = None, *, token: str = "") -> Any:
        """Send a request, check the status of the response, and return its JSON."""
        found, answer = await self.call(method, path, body, token=token)
        refusal = answer.get("detail") if isinstance(answer, dict) else None
        self.assertEqual(status, found, refusal)
        return answer

    def require(self, feature: FeatureName) -> None:
        """Skip the test if a feature is off."""
        settings = self.deployment.settings
        if not settings.has(feature) or (feature == "files" and not settings.file_limit):
            self.skipTest(f"the feature {feature} is off")

    async def sign_up(self) -> str:
        """Register a user, deleted after the test, and return an access token."""
        user = {"username": f"smoke-{secrets.token_hex(8)}", "password": secrets.token_hex(16)}
        await self.expect(201, "POST", "/register", user)
        token = str((await self.expect(200, "POST", "/login", user))["access_token"])
        self.addAsyncCleanup(self.expect, 204, "DELETE", "/me", {"password": user["password"]}, token=token)
        return token

    async def test_health(self) -> None:
        """The process is alive and reaches MongoDB."""
        await self.expect(200, "GET", "/healthz")
        await self.expect(200, "GET", "/readyz")

    async def test_a_secret_opens_once(self) -> None:
        """A wrong phrase is rejected, the right one opens the secret, and then it is gone."""
        secret = {"secret": "a secret ☕", "phrase": "its phrase"}
        created = await self.expect(201, "POST", "/generate", secret)
        path = f"/secrets/{created['secret_key']}"
        refused = await self.expect(403, "POST", path, {"phrase": "another"})
        opened = await self.expect(200, "POST", path, {"phrase": secret["phrase"]})
        gone = await self.expect(404, "POST", path, {"phrase": secret["phrase"]})

        self.assertEqual("Incorrect phrase", refused["Error"])
        self.assertEqual(secret["secret"], opened["secret"])
        self.assertEqual("Key not found", gone["Error"])

    async def test_a_file_arrives_unchanged(self) -> None:
        """The reader of a secret downloads its file until it has confirmed that the file has arrived."""
        self.require("files")
        content = secrets.token_bytes(2_000)
        async with self.session.post("/files", headers={"Upload-Length": str(len(content))}) as answer:
            upload = (await answer.json())["upload"]
        headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        async with self.session.patch(f"/files/{upload}", data=content, headers=headers) as answer:
            self.assertEqual(204, answer.status)
        created = await self.expect(201, "POST", "/generate", {"files": [{"upload": upload}]})
        path = f"/secrets/{created['secret_key']}"
        opened = await self.expect(200, "POST", path)
        file, headers = f"{path}/files/{opened['files'][0]['id']}", {"Sealpost-Reader": opened["reader"]}
        async with self.session.get(file, headers=headers) as answer:
            self.assertEqual(content, await answer.read())
        await self.expect(204, "POST", f"{path}/received", {"reader": opened["reader"]})
        async with self.session.get(file, headers=headers) as answer:
            self.assertEqual(404, answer.status)

    async def test_a_message_is_read_as_text(self) -> None:
        """The page of a message shows its text escaped."""
        self.require("messages")
        text = "<script>alert(1)</script> & a message"
        async with self.session.post("/", data={"message": text}) as answer:
            self.assertEqual(201, answer.status)
            created = await answer.json()
        path = "/message/" + created["url"].rpartition("/")[2]
        read = await self.expect(200, "GET", path)
        async with self.session.get(path, headers={"Accept": "text/html"}) as answer:
            page = await answer.text()
        swept = await self.expect(200, "POST", "/delete")

        self.assertEqual(text, read["message"])
        self.assertIn(html.escape(text, quote=False), page)
        self.assertEqual({"deleted": 0}, swept)

    async def test_a_user_posts_and_likes(self) -> None:
        """A post is in the feed, counts one like, and is in the analytics of its day."""
        self.require("posts")
        token = await self.sign_up()
        first = datetime.now(UTC).date()
        post = await self.expect(201, "POST", "/posts", {"content": "a post"}, token=token)
        liked = await self.expect(200, "PUT", f"/posts/{post['id']}/like", token=token)
        feed = await self.expect(200, "GET", "/posts?limit=1", token=token)
        last = datetime.now(UTC).date()
        analytics = await self.expect(200, "GET", f"/posts/analytics?from={first}&to={last}", token=token)
        me = await self.expect(200, "GET", "/me", token=token)

        self.assertEqual((1, 0, "like"), (liked["likes"], liked["dislikes"], liked["mine"]))
        self.assertEqual(["a post"], [one["content"] for one in feed["posts"]])
        self.assertEqual((1, 1), tuple(sum(day[name] for day in analytics["days"]) for name in ("posts", "likes")))
        self.assertIsNotNone(me["last_login_at"])

    async def test_a_sender_goes_through_the_states_of_the_gatherer(self) -> None:
        """Grounded, identified, authenticated, grounded again; a message in another state is rejected."""
        self.require("gatherer")
        name = {"username": f"smoke-{secrets.token_hex(8)}"}
        known = {**name, "password": secrets.token_hex(16)}
        authenticate = {"message_type": "AUTHENTICATE", **known}
        await self.expect(403, "POST", "/authenticate", authenticate)
        await self.expect(201, "POST", "/identify", {"message_type": "IDENTIFY", **name})
        token = (await self.expect(201, "POST", "/authenticate", authenticate))["token"]
        message = {"message_type": "MESSAGE", "token": token, "message": "a message"}
        stored = await self.expect(201, "POST", "/message", message)
        await self.expect(202, "POST", "/message", {**message, "message": "logout"})
        await self.expect(403, "POST", "/message", message)
        await self.expect(202, "POST", "/identify", {"message_type": "IDENTIFY", **name})
        again = await self.expect(202, "POST", "/authenticate", authenticate)

        self.assertEqual(201, stored["status_code"])
        self.assertTrue(again["token"])

    async def test_the_echo(self) -> None:
        """The greeting is public; the echo requires a token and returns the text."""
        self.require("echo")
        token = await self.sign_up()
        welcome = await self.expect(200, "GET", "/hello")
        await self.expect(401, "POST", "/echo", {"str": "a text"})
        said = await self.expect(200, "POST", "/echo", {"auth": token, "str": "a text ☕", "more": 1})

        self.assertEqual({"Hello": "Welcome to the Echo Room."}, welcome)
        self.assertEqual({"str": "a text ☕"}, said)
