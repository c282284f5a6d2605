"""Results as a table for people, as JSON for programs, and as a chart."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.rounds import Result

__all__ = ["save", "show"]

FLOOR = "psycopg"
BAR, GAP, LEFT, WIDE = 18, 10, 190, 420


def document(results: Sequence[Result], about: dict[str, Any]) -> dict[str, Any]:
    """Give everything as one value for JSON."""
    return {
        "about": {**about, "python": platform.python_version(), "machine": platform.platform()},
        "figures": [
            {
                "figure": each.figure,
                "contender": each.contender,
                "median": each.median,
                "of_psycopg": ratio(each, results),
                "rounds": each.rates,
            }
            for each in results
        ],
    }


def ratio(result: Result, results: Sequence[Result]) -> float | None:
    """Give the median of the rounds' ratios to raw psycopg in the same round."""
    for other in results:
        if (other.figure, other.contender) == (result.figure, FLOOR):
            return result.median / other.median
    return None


def show(results: Sequence[Result], console: Console) -> None:
    """Print a table: a row for each figure and contender."""
    table = Table("figure", "contender", "messages/s", "of psycopg", "rounds from … to")
    before = ""
    for each in results:
        of_floor = ratio(each, results)
        table.add_row(
            each.figure if each.figure != before else "",
            each.contender,
            f"{each.median:,.0f}",
            "" if of_floor is None else f"{of_floor:.2f}",
            f"{min(each.rates):,.0f} … {max(each.rates):,.0f}",
            end_section=False,
        )
        before = each.figure
    console.print(table)


def chart(results: Sequence[Result], figure: str, path: Path) -> None:
    """Draw one figure as bars."""
    shown = [each for each in results if each.figure == figure]
    most = max(each.median for each in shown)
    lines = []
    for place, each in enumerate(sorted(shown, key=lambda each: -each.median)):
        top = place * (BAR + GAP) + 30
        width = max(WIDE * each.median / most, 1)
        ours = each.contender.startswith("pgqrs")
        colour = "#3f51b5" if ours else "#9e9e9e"
        box = f'x="{LEFT}" y="{top}" width="{width:.0f}" height="{BAR}" fill="{colour}"'
        lines += [
            f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{each.contender}</text>',
            f"<rect {box}/>",
            f'<text x="{LEFT + width + 6:.0f}" y="{top + 13}">{each.median:,.0f}/s</text>',
        ]
    height = len(shown) * (BAR + GAP) + 40
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-size="13"'
        ' font-family="sans-serif" fill="currentColor">\n'
        f'<text x="{LEFT}" y="18" font-weight="bold">{figure}</text>\n'
        + "\n".join(lines)
        + "\n</svg>\n"
    )


def save(results: Sequence[Result], about: dict[str, Any], where: Path) -> None:
    """Write the JSON and a chart of each figure."""
    where.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(results, about), indent=1)
    (where / "results.json").write_text(text + "\n")
    for figure in dict.fromkeys(each.figure for each in results):
        name = "".join(c if c.isalnum() else "-" for c in figure)
        chart(results, figure, where / f"{name}.svg")
