"""`python -m bench.page RESULT.json`: copies the tables and the chart of a result to `docs/performance.md`."""

import shutil
import sys
from pathlib import Path

from .running_stack import ROOT

PAGE = ROOT / "docs" / "performance.md"
BETWEEN = "\n\n"


def replace_tables(page: str, tables: str) -> str:
    """Return the page with each of its tables replaced by the one with the same head, if there is one."""
    by_head = {table.splitlines()[0]: table for table in tables.strip().split(BETWEEN)}
    return BETWEEN.join(by_head.get(block.split("\n")[0], block) for block in page.rstrip().split(BETWEEN)) + "\n"


if __name__ == "__main__":
    result = Path(sys.argv[1])
    tables = result.with_suffix(".md").read_text(encoding="utf-8")
    PAGE.write_text(replace_tables(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
    shutil.copyfile(result.with_suffix(".svg"), PAGE.with_suffix(".svg"))
