"""The chart of `make bench`: worker time a request as a multiple of bare aiohttp's, as an SVG without scripts."""

import math
from collections.abc import Sequence
from html import escape

from .report import Row

WIDTH, LEFT, RIGHT = 860, 330, 150
ROW, BAR, TOP, BOTTOM = 26, 14, 64, 34
"""Pixels."""
FIELD = "worker_us"
TIMES = "\N{MULTIPLICATION SIGN}"
MARKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
EXPLANATION = (
    "Worker processor time a request, as a multiple of bare aiohttp's; logarithmic. Thin lines: spread of the rounds."
)
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.head { font-size: 15px; font-weight: 600 }
.small { font-size: 12px; fill: #59636e }
.paper { fill: #ffffff }
.bar { fill: #2f6f9f }
.line { stroke: #d1d9e0 }
.spread { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .small { fill: #9198a1 }
  .paper { fill: #0d1117 }
  .bar { fill: #5aa0d0 }
  .line { stroke: #3d444d }
  .spread { stroke: #f0f6fc }
}"""


def chart(rows: Sequence[Row], title: str) -> str:
    """Return the chart of the rows that have a ratio; a bar is the median, the line on it the spread of the rounds.

    The scale is logarithmic, because some requests cost a hundred times as much as others. It begins at 1, the floor.
    """
    drawn = [row for row in rows if FIELD in row.ratios]
    most = max((row.ratios[FIELD].most for row in drawn), default=1.0)
    marks = [mark for mark in MARKS if mark <= most] or [1]
    scale = (WIDTH - LEFT - RIGHT) / max(math.log(most), math.log(2))
    height = TOP + ROW * len(drawn) + BOTTOM
    bottom, size = height - BOTTOM, f'width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<rect class="paper" {size}/>',
        f'<text class="head" x="16" y="26">{escape(title)}</text>',
        f'<text class="small" x="16" y="46">{escape(EXPLANATION)}</text>',
    ]
    for mark in marks:
        x = LEFT + math.log(mark) * scale
        parts.append(f'<line class="line" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{mark}{TIMES}</text>')
    for index, row in enumerate(drawn):
        parts += _bar(row, TOP + index * ROW + ROW // 2, scale)
    return "\n".join((*parts, "</svg>\n"))


def _bar(row: Row, middle: int, scale: float) -> list[str]:
    ratio, us = row.ratios[FIELD], row.values[FIELD].median
    least, median, most = (math.log(max(1.0, each)) * scale for each in (ratio.least, ratio.median, ratio.most))
    label, top = escape(row.title.replace("`", "")), middle - BAR // 2
    told = f"{ratio.median:.2f}{TIMES} ({us:,.0f} µs)"
    return [
        f'<text x="{LEFT - 10}" y="{middle + 5}" text-anchor="end">{label}</text>',
        f'<rect class="bar" x="{LEFT}" y="{top}" width="{median:.1f}" height="{BAR}" rx="2"/>',
        f'<line class="spread" x1="{LEFT + least:.1f}" y1="{middle}" x2="{LEFT + most:.1f}" y2="{middle}"/>',
        f'<text x="{LEFT + most + 8:.1f}" y="{middle + 5}">{told}</text>',
    ]
