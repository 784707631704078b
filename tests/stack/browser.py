"""A headless Chromium, driven over the DevTools protocol: the content of a page, and every action of it."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from ..processes import PATIENCE

LARGEST_ANSWER = 64 * 1024 * 1024
FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    # Background tabs must run as fast as the one in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    # Requests of a page to other hosts are recorded, but not sent.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
DOMAINS = ("Page", "Network", "Runtime", "Log", "Audits")
# Everything in the document but text, in order, with its depth, namespace and attributes.
LOOK = """(() => {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL & ~NodeFilter.SHOW_TEXT);
  const depth = node => node.parentNode ? depth(node.parentNode) + 1 : 0;
  const outline = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const attributes = Array.from(node.attributes || [], one => ` ${one.name}=${one.value}`).join("");
    outline.push(`${depth(node)} ${node.namespaceURI || ""} ${node.nodeName}${attributes}`);
  }
  const pre = document.querySelector("pre");
  return {
    text: pre && pre.textContent,
    outline,
    title: document.title,
    charset: document.characterSet,
    mode: document.compatMode,
    address: location.href,
    wraps: document.documentElement.scrollWidth <= document.documentElement.clientWidth,
    ran: window.ran === undefined ? null : String(window.ran),
  };
})()"""
RAN = """new Promise(resolve => {
  const check = () => window.ran === undefined ? setTimeout(check, 10) : resolve();
  check();
})"""


@dataclass(frozen=True)
class Look:
    """The content of a loaded page: ``ran`` is what a script has left in ``window.ran``."""

    text: str | None
    outline: list[str]
    title: str
    charset: str
    mode: str
    address: str
    wraps: bool
    ran: str | None


@dataclass
class Visit:
    """A page that is loaded until it is idle, and the events recorded meanwhile."""

    frame_id: str
    before: str
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    issues: list[str] = field(default_factory=list)
    shown: Look | None = None

    @property
    def look(self) -> Look:
        """The content of the page."""
        assert self.shown is not None
        return self.shown

    def notice(self, method: str, event: dict[str, Any]) -> None:
        """Record an event."""
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])
            case "Page.javascriptDialogOpening":
                self.dialogs.append(event["message"])
            case "Log.entryAdded":
                self.console.append(event["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.console.append(str(event["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(event["exceptionDetails"]["text"])
            case "Audits.issueAdded":
                self.issues.append(event["issue"]["code"])
            case "Page.lifecycleEvent" if event["name"] == "networkIdle" and event["frameId"] == self.frame_id:
                # Of this page or of one that it navigated to, not of the page before it.
                if event["loaderId"] != self.before:
                    self.idle.set()


class Browser:
    """A connection to a browser, with as many tabs as pages were open at once: a new one for each takes its time."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._context: dict[str, Any] = {}
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._free: list[str] = []
        self._visits: dict[str, Visit] = {}
        self._closing: set[asyncio.Task[Any]] = set()

    async def call(self, method: str, session_id: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = len(self._answers) + 1
        self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json({**command, "sessionId": session_id} if session_id else command)
        answer = await asyncio.wait_for(self._answers[number], PATIENCE)
        assert "error" not in answer, (method, answer)
        return dict(answer["result"])

    async def read(self) -> None:
        """Process the browser's messages until it disconnects; close each dialog, which would block its page."""
        async for message in self._socket:
            assert message.type == WSMsgType.TEXT, message
            said = json.loads(message.data)
            if "id" in said:
                future = self._answers[said["id"]]
                if not future.done():
                    future.set_result(said)
            elif visit := self._visits.get(session_id := said.get("sessionId", "")):
                visit.notice(said["method"], said["params"])
                if said["method"] == "Page.javascriptDialogOpening":
                    closing = self.call("Page.handleJavaScriptDialog", session_id, accept=True)
                    self._closing.add(asyncio.create_task(closing))

    async def visit(self, url: str, *, without_policy: bool = False, runs_script: bool = False) -> Visit:
        """Open a page and wait until nothing was on its way for half a second.

        ``without_policy`` has the browser pass over the page's Content-Security-Policy. ``runs_script`` also waits
        until the page has set ``window.ran``, which an event handler may do after the network is idle.
        """
        tab = self._free.pop() if self._free else await self._new_tab()
        frame = (await self.call("Page.getFrameTree", tab))["frameTree"]["frame"]
        visit = self._visits[tab] = Visit(frame["id"], frame["loaderId"])
        await self.call("Page.setBypassCSP", tab, enabled=without_policy)
        await self.call("Page.navigate", tab, url=url)
        await asyncio.wait_for(visit.idle.wait(), PATIENCE)
        if runs_script:
            ran = self.call("Runtime.evaluate", tab, expression=RAN, awaitPromise=True)
            await asyncio.wait_for(ran, PATIENCE)
        looked = await self.call("Runtime.evaluate", tab, expression=LOOK, returnByValue=True)
        visit.shown = Look(**looked["result"]["value"])
        del self._visits[tab]
        self._free.append(tab)
        return visit

    async def _new_tab(self) -> str:
        # The tabs close with the connection, and leave nothing in the profile.
        if not self._context:
            self._context = await self.call("Target.createBrowserContext", disposeOnDetach=True)
        target_id = (await self.call("Target.createTarget", url="about:blank", **self._context))["targetId"]
        tab = str((await self.call("Target.attachToTarget", targetId=target_id, flatten=True))["sessionId"])
        for domain in DOMAINS:
            await self.call(f"{domain}.enable", tab)
        await self.call("Page.setLifecycleEventsEnabled", tab, enabled=True)
        await self.call("Emulation.setFocusEmulationEnabled", tab, enabled=True)
        return tab


@contextmanager
def running_chromium() -> Iterator[str]:
    """Run a headless Chromium with a new profile until the block ends; yields the address of its DevTools."""
    # Not in pytest's directory: the path of a socket in it must be short.
    with TemporaryDirectory(prefix="sealpost-browser-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        profile, log = directory / "profile", directory / "log"
        # Chromium's sandbox is not for root.
        command = ["chromium", *FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "about:blank"],
                env={**os.environ, "HOME": name, "TMPDIR": name},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # In its own process group, all of which is killed at the end.
                start_new_session=True,
            )
        try:
            yield _devtools(process, profile / "DevToolsActivePort", log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


@asynccontextmanager
async def connected(devtools: str) -> AsyncIterator[Browser]:
    """Connect to a browser; raises errors of the connection that occurred meanwhile."""
    async with (
        ClientSession() as session,
        session.ws_connect(devtools, max_msg_size=LARGEST_ANSWER) as socket,
        asyncio.TaskGroup() as tasks,
    ):
        browser = Browser(socket)
        tasks.create_task(browser.read())
        yield browser
        await socket.close()


def _devtools(process: subprocess.Popen[bytes], file: Path, log: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        # The port, and the path behind it.
        lines = file.read_text().splitlines() if file.exists() else []
        if len(lines) > 1:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise AssertionError(log.read_text())
