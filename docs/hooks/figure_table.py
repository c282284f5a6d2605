"""The few figures that the front page shows: taken from the page of benchmarks, nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

BENCHMARKS: Final = Path(__file__).parent.parent / "benchmarks.md"
CONTENDERS: Final = ("pgqrs", "procrastinate", "PgQueuer", "pgmq", "upstream pgqrs")
FIGURES: Final = (
    "enqueue one",
    "enqueue 1000",
    "lease and archive one",
    "drain by 100",
    "run, 8 at a time",
    "parked rows and a held snapshot",
)
_ROW: Final = re.compile(r"^ *\| ([^|]+) \| ([^|]+) \| ([\d,.]+/s) \|", re.MULTILINE)


def text() -> str:
    """Write the medians, a row for each figure."""
    measured = {
        (figure.strip(), contender.strip()): median
        for figure, contender, median in _ROW.findall(BENCHMARKS.read_text(encoding="utf-8"))
    }
    head = ["messages a second", *CONTENDERS]
    rows = [f"| {' | '.join(head)} |", f"|---|{'--:|' * len(CONTENDERS)}"]
    for figure in FIGURES:
        found = [measured.get((figure, each), "-") for each in CONTENDERS]
        rows.append(f"| {figure} | {' | '.join(each.removesuffix('/s') for each in found)} |")
    return "\n".join(rows)
