"""`python -m bench.page RESULT.json`: copies the tables of a result, and its chart, to their page in `docs/`."""

import shutil
import sys
from pathlib import Path

from .machine import GROWTH
from .running_stack import ROOT

PERFORMANCE, CAPACITY = (ROOT / "docs" / name for name in ("performance.md", "capacity.md"))
BETWEEN = "\n\n"


def replace_tables(page: str, tables: str) -> str:
    """Return the page with each of its tables replaced by the one with the same head, if there is one."""
    by_head = {table.splitlines()[0]: table for table in tables.strip().split(BETWEEN)}
    return BETWEEN.join(by_head.get(block.split("\n")[0], block) for block in page.rstrip().split(BETWEEN)) + "\n"


if __name__ == "__main__":
    result = Path(sys.argv[1])
    page = CAPACITY if result.name.startswith(GROWTH) else PERFORMANCE
    tables = result.with_suffix(".md").read_text(encoding="utf-8")
    page.write_text(replace_tables(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    if (chart := result.with_suffix(".svg")).exists():
        shutil.copyfile(chart, page.with_suffix(".svg"))
