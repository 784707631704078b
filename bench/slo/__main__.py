"""`make slo`: sends mixed traffic and probes to a stack, and reports whether it met the objectives of docs/slo.md.

Without a URL, it starts a temporary stack without rate limits. With a URL, it sends requests to that stack at a rate
under the default limits, and creates and deletes its own accounts. The exit code is 0 if no objective was missed, 1 if
one was missed, 2 if nothing could be measured, and 130 after Ctrl-C.
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
from .objectives import ObjectiveResult, Verdict
from .report import table
from .run import Run
from .schedule import OWN_STACK, UNDER_LIMITS
from .users import RunError


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the objectives and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.slo", description="Measure the objectives of docs/slo.md.")
    parser.add_argument("--seconds", type=_positive, default=60, help="duration of the traffic (default 60)")
    parser.add_argument("--url", type=_origin, help="a running stack (default: start one)")
    parser.add_argument("--metrics-url", type=_url, help="the metrics of that stack")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args(arguments)
    if options.metrics_url and not options.url:
        parser.error("--metrics-url requires --url")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: no such directory: {options.json.parent}")
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


def _measure(url: str | None, metrics_url: str | None, seconds: int) -> list[ObjectiveResult]:
    """Raises `RunError`, and `RuntimeError` if the stack does not start."""
    if url:
        print(
            f"Sending about {UNDER_LIMITS.requests:.0f} requests a second to {url}, under the default limits for an"
            f" address, from {UNDER_LIMITS.users} accounts that are deleted at the end.\n"
            "An address may register 10 accounts an hour, enough for 3 runs.",
            flush=True,
        )
        return asyncio.run(Run(url, metrics_url, UNDER_LIMITS, seconds).measure())
    if not has_programs("nginx"):
        raise RunError("no stack to measure: install nginx, or set URL= to a running stack")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-slo-")))
        print("Starting a temporary stack without rate limits.", flush=True)
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
        raise argparse.ArgumentTypeError("must be a positive whole number")
    return int(text)


def _url(text: str) -> str:
    address = urlsplit(text)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise argparse.ArgumentTypeError("must be a URL such as http://127.0.0.1:8080")
    return text


def _origin(text: str) -> str:
    address = urlsplit(_url(text))
    if address.path.strip("/") or address.query or address.fragment or address.username:
        raise argparse.ArgumentTypeError("must be only a scheme, host and port, such as http://127.0.0.1:8080")
    return f"{address.scheme}://{address.netloc}"


if __name__ == "__main__":
    sys.exit(main())
