"""`make slo`: mixed traffic and probes on a stack, and whether the objectives of docs/slo.md were held.

Without a URL it starts a stack of its own, on temporary data and with rate limits off. With one it drives the stack
there, at a pace under its default limits, through accounts that it makes and deletes. The exit code is 0 when no
objective was missed, 1 when one was, 2 when there was nothing to measure, and 130 after Ctrl-C.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.running_stack import running_stack

from ..machine import has_programs
from .objectives import Result, Verdict
from .report import table
from .run import Run
from .schedule import OWN_STACK, UNDER_LIMITS
from .users import RunError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.slo", description="Measure the objectives of docs/slo.md.")
    parser.add_argument("--seconds", type=_positive, default=60, help="how long traffic is made (default 60)")
    parser.add_argument("--url", type=_origin, help="a stack that runs; without it, one is started")
    parser.add_argument("--metrics-url", type=_address, help="where that stack tells its metrics")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the results to as well")
    options = parser.parse_args(arguments)
    if options.metrics_url and not options.url:
        parser.error("--metrics-url goes with --url: a stack that is started here tells its own")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no directory {options.json.parent}")
    try:
        results = _measure(options.url, options.metrics_url, options.seconds)
    except (RunError, RuntimeError) as error:
        sys.stderr.write(f"slo: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    print(table(results))
    if options.json:
        record = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": options.seconds,
            "url": options.url,
            "objectives": [asdict(result) for result in results],
        }
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 1 if any(result.verdict is Verdict.MISSED for result in results) else 0


def _measure(url: str | None, metrics_url: str | None, seconds: int) -> list[Result]:
    """Raises `RunError` and, where no stack starts, `RuntimeError`."""
    if url:
        print(
            f"{url} is driven at about {UNDER_LIMITS.requests:.0f} requests a second, under the default limits of an"
            f" address, through {UNDER_LIMITS.users} accounts that are deleted in the end.\n"
            "An address may register 10 accounts an hour, which is enough for three runs.",
            flush=True,
        )
        return asyncio.run(Run(url, metrics_url, UNDER_LIMITS, seconds).measure())
    if not has_programs("nginx"):
        raise RunError("there is no stack to measure: install nginx, or name one that runs with URL=")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-slo-")))
        print("A stack of its own is started, on temporary data and without rate limits.", flush=True)
        running = stack.enter_context(
            running_stack(
                data_dir=directory / "data",
                log_dir=directory / "logs",
                environment={"SEALPOST_RATE_LIMITS": "off"},
            )
        )
        return asyncio.run(Run(running.url, running.metrics_url, OWN_STACK, seconds).measure())


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number from 1 on")
    return int(text)


def _address(text: str) -> str:
    address = urlsplit(text)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise argparse.ArgumentTypeError("must be an address as http://127.0.0.1:8080")
    return text


def _origin(text: str) -> str:
    address = urlsplit(_address(text))
    if address.path.strip("/") or address.query or address.fragment or address.username:
        raise argparse.ArgumentTypeError("must be no more than scheme, host and port, as http://127.0.0.1:8080")
    return f"{address.scheme}://{address.netloc}"


if __name__ == "__main__":
    sys.exit(main())
