"""Debian's Firefox ESR, headless, driven by Playwright over WebDriver BiDi.

Playwright expects commands that this Firefox does not have yet. Run as a program, this module is a Firefox that has
them: it relays WebDriver BiDi, and emulates a color scheme by a preference.
"""

import asyncio
import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, web
from aiohttp.test_utils import TestServer
from playwright.sync_api import Browser, sync_playwright

from .chromium import PATIENCE

_ROOT = Path(__file__).parents[2]
_PREFERENCES: dict[str, str | float | bool] = {
    # Requests to other hosts fail: there is no proxy at this port.
    "network.proxy.type": 1,
    "network.proxy.socks": "127.0.0.1",
    "network.proxy.socks_port": 9,
    "network.proxy.socks_remote_dns": True,
    "network.proxy.no_proxies_on": "127.0.0.1, plain.test",
    "network.dns.localDomains": "plain.test",
    # Each of several windows has the focus.
    "focusmanager.testmode": True,
    # A page may read the clipboard without a prompt.
    "dom.events.testing.asyncClipboard": True,
}
_SCHEME = "layout.css.prefers-color-scheme.content-override"
_SCHEMES = {"dark": 0, "light": 1}
_SYSTEM_SCHEME = 2
_LISTENING = re.compile(r"WebDriver BiDi listening on ws://(\S+)")
# Playwright counts its commands from 1.
_FIRST_ID = 1 << 40


@contextmanager
def running_firefox() -> Iterator[Browser]:
    """Run Firefox for the duration of the block."""
    with TemporaryDirectory() as directory, sync_playwright() as playwright:
        program = Path(directory) / "firefox"
        program.write_text(f'#!/bin/sh\ncd "{_ROOT}" && exec "{sys.executable}" -m {__name__} "$@"\n')
        program.chmod(0o700)
        browser = playwright.firefox.launch(
            channel="moz-firefox", executable_path=program, firefox_user_prefs=_PREFERENCES, timeout=2 * PATIENCE
        )
        yield browser
        browser.close()


class _Relay:
    """Relays between Playwright and Firefox, except for commands that Firefox does not know."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Relay one connection of Playwright."""
        playwright = web.WebSocketResponse(max_msg_size=0)
        await playwright.prepare(request)
        async with (
            ClientSession() as session,
            session.ws_connect(f"ws://{self._address}{request.path}", max_msg_size=0) as firefox,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._forward(firefox, playwright))
            async for message in playwright:
                command = json.loads(message.data)
                if command["method"] == "emulation.setMediaFeaturesOverride":
                    scheme = command["params"]["features"].get("prefers-color-scheme")
                    await self._prefer(firefox, _SCHEMES.get(scheme, _SYSTEM_SCHEME))
                    await playwright.send_json({"type": "success", "id": command["id"], "result": {}})
                    continue
                if command["method"] == "browsingContext.create":
                    # Of several tabs in a window, only one is visible.
                    command["params"]["type"] = "window"
                await firefox.send_json(command)
            await firefox.close()
        return playwright

    async def _forward(self, firefox: ClientWebSocketResponse, playwright: web.WebSocketResponse) -> None:
        async for message in firefox:
            answer = json.loads(message.data)
            waiting = self._answers.pop(answer.get("id"), None)
            if waiting:
                waiting.set_result(answer)
            else:
                await playwright.send_str(message.data)
        await playwright.close()

    async def _prefer(self, firefox: ClientWebSocketResponse, scheme: int) -> None:
        """Set the color scheme of all pages."""
        tree = await self._call(firefox, "browsingContext.getTree", {"moz:scope": "chrome"})
        target = {"context": tree["contexts"][0]["context"]}
        script = f"Services.prefs.setIntPref('{_SCHEME}', {scheme})"
        await self._call(firefox, "script.evaluate", {"expression": script, "target": target, "awaitPromise": False})

    async def _call(self, firefox: ClientWebSocketResponse, method: str, parameters: dict[str, Any]) -> Any:
        number = _FIRST_ID + len(self._answers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await firefox.send_json({"id": number, "method": method, "params": parameters})
        said = await answer
        assert said["type"] == "success", said
        return said["result"]


async def _run(arguments: list[str]) -> None:
    """Run Firefox until it ends; write the address of the relay where Firefox writes its own."""
    firefox = await asyncio.create_subprocess_exec(
        "firefox-esr", "--remote-allow-system-access", *arguments, stderr=asyncio.subprocess.PIPE
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, firefox.kill)
    assert firefox.stderr
    async for line in firefox.stderr:
        listening = _LISTENING.search(line.decode())
        if not listening:
            continue
        application = web.Application()
        application.router.add_get("/{path:.*}", _Relay(listening[1]).serve)
        async with TestServer(application) as server:
            sys.stderr.write(f"WebDriver BiDi listening on ws://{server.host}:{server.port}\n")
            # A full pipe would stop Firefox.
            await firefox.stderr.read()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1:]))
