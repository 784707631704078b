"""The commands in the README, the tour and the API page have the documented output."""

import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.running_stack import free_port
from src.core import workers

from .processes import PATIENT_ENVIRONMENT

ROOT = Path(__file__).parents[1]
README, TOUR, API = ROOT / "README.md", ROOT / "docs" / "tour.md", ROOT / "docs" / "api.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
NOT_IN_CI = {"make format", "make screenshots", "make test", "make test-firefox", "make test-lifecycle"}
"""They change files, need Firefox, or `make coverage` runs the same tests."""
START_SECONDS, STOP_SECONDS, SESSION_SECONDS = 120, 60, 240
END_OF_BLOCK = "--- end of block"


class Block(NamedTuple):
    """A fenced block: its language and its lines."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in order."""
    found = re.findall(r"(?ms)^```([^\n]*)\n(.*?)^```$", page.read_text(encoding="utf-8"))
    return [Block(*parts) for parts in found]


def typed_and_shown(page: Path) -> list[tuple[str, str]]:
    """Return each `sh` block with the `text` block that follows it, or an empty text."""
    found = blocks(page)
    pairs = zip(found, [*found[1:], Block("", "")], strict=True)
    return [(block.text, after.text if after.language == "text" else "") for block, after in pairs if block[0] == "sh"]


def shows(expected: str, output: str) -> bool:
    """Tell whether an output matches the documented one, in which … matches the rest of its line."""
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, output.strip()) is not None


@pytest.fixture
def server(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The program as started by `make run`, on a free port, with its data where commands in `tmp_path` find it."""
    port = free_port()
    directory = tmp_path_factory.mktemp("readme")
    # Other tests measure the server's coverage, and the tracer would double its time.
    left_out = ("SEALPOST_", "COVERAGE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "src.app", "-H", "127.0.0.1", "-P", str(port)],
            # Not in the repository: a developer's .env must not count.
            cwd=directory,
            env={
                **environment,
                **PATIENT_ENVIRONMENT,
                "PYTHONPATH": str(ROOT),
                "SEALPOST_DATA_DIR": str(tmp_path / ".data"),
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while not is_ready(url):
            said = (directory / "output").read_text(encoding="utf-8")

            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        finally:
            process.kill()
            process.wait()


def is_ready(url: str, trust: ssl.SSLContext | None = None) -> bool:
    """Tell whether the server is ready; ``trust`` is for one with TLS."""
    scheme, _, address = url.partition("://")
    if scheme == "https":
        return workers.is_ready(http.client.HTTPSConnection(address, timeout=10, context=trust))
    return workers.is_ready(http.client.HTTPConnection(address, timeout=10))


@pytest.mark.lifecycle
@pytest.mark.skipif(shutil.which("curl") is None, reason="the pages type curl, which is not on PATH")
@pytest.mark.parametrize("page", [README, TOUR, API], ids=lambda page: page.name)
def test_the_session_has_the_documented_output(server: str, tmp_path: Path, page: Path) -> None:
    """Typed from top to bottom into one shell, each block prints the text below it."""
    # The files of a clone after `make`.
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "src").symlink_to(ROOT / "src")
    typed = typed_and_shown(page)
    script = "\n".join(["set -euo pipefail", *(f"{block}\necho '{END_OF_BLOCK}'" for block, _ in typed)])
    session = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            # Tracing would double the time of each command, and other tests run them all.
            **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            "SEALPOST": server,
            "SEALPOST_URL": server,
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SESSION_SECONDS,
        check=False,
    )
    # If a delivery takes over 5 seconds, as on a busy machine, the client reports its progress.
    shown = re.sub(r"(?m)^.* left to deliver\n", "", session.stdout)
    outputs = shown.split(f"{END_OF_BLOCK}\n")

    assert session.returncode == 0, shown
    assert len(typed) == len(outputs) - 1 > 0
    for (block, expected), output in zip(typed, outputs, strict=False):
        assert shows(expected, output), f"{block}\nshould print\n{expected}\nand prints\n{output}"


@pytest.mark.parametrize("page", [README, TOUR], ids=lambda page: page.name)
def test_every_block_is_run_somewhere(page: Path) -> None:
    """A block of a page is part of the session, its output, or make targets that CI runs."""
    found = blocks(page)
    for block, before in zip(found, [Block("", ""), *found], strict=False):
        match block.language:
            case "sh":
                continue
            case "text":
                assert before.language == "sh", block.text
            case "console":
                assert all(line.startswith("$ ") for line in block.text.splitlines()), block.text
            case _:
                pytest.fail(f"this block is neither sh, text nor console:\n{block.text}")


def test_ci_runs_the_remaining_commands() -> None:
    """`.ci/run` contains each make target on the pages, and each check of CONTRIBUTING."""
    found = [*blocks(README), *blocks(TOUR)]
    consoles = [block.text.splitlines() for block in found if block.language == "console"]
    typed = [line.removeprefix("$ ") for lines in consoles for line in lines]
    checks = re.findall(r"(?m)^\| `(make [a-z-]+)` \|", CONTRIBUTING.read_text(encoding="utf-8"))
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    targets = {*typed, *checks} - {"cd sealpost"} - NOT_IN_CI

    assert set(checks) > NOT_IN_CI
    assert all(target.startswith("make ") for target in targets)
    assert set() == {target for target in targets if not re.search(rf"(?<![\w-]){target}(?![\w-])", ci)}
