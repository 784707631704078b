"""The machine that runs a benchmark: the programs that it needs, and the file with its results."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
GROWTH = "growth-"
"""Prefix of the results of `make bench-growth`."""


def has_programs(*programs: str) -> bool:
    """Tell whether all programs are installed, and name a missing one on stderr."""
    for program in programs:
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            print(f"bench: {program} is missing; install it with your package manager", file=sys.stderr)
            return False
    return True


def write_result(result: Mapping[str, Any], prefix: str = "") -> Path:
    """Write the result, with the time and the machine, to a new file in ``bench/results/``.

    Prints its path, and returns it.
    """
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
    }
    path = RESULTS / f"{prefix}{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps({**about, **result}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(RESULTS.parents[1])}")
    return path
