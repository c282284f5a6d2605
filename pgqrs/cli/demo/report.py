"""The outcome of the demo, for people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pgqrs.cli.demo.verdict import Verdict
from pgqrs.cli.render import present

__all__ = ["report"]


def report(verdict: Verdict) -> None:
    """Print the outcome, and the largest modules."""
    present("")
    present(_outcome(verdict))
    present(_largest(verdict))
    if not verdict.problems:
        good = "every file was archived exactly once, those of the killed consumer too"
        present(Text(good, "bold green"))


def _outcome(verdict: Verdict) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    rate, spent = f"{verdict.messages_per_second:,.0f}", f"in {verdict.seconds:.1f} seconds"
    of_killed = f"{verdict.came_back} of {verdict.held_by_killed} held by the killed consumer"
    parsed = f"with {verdict.functions:,} functions and {verdict.classes:,} classes"
    table.add_row("files", f"{verdict.files:,}", f"{verdict.not_python:,} of them no valid Python")
    table.add_row("archive rows", f"{verdict.archive_rows:,}", "counted in the database")
    table.add_row("messages a second", rate, spent)
    table.add_row("redelivered", f"{verdict.redelivered:,}", of_killed)
    table.add_row("lines parsed", f"{verdict.lines:,}", parsed)
    return table


def _largest(verdict: Verdict) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("largest modules", overflow="fold")
    for heading in ("lines", "functions", "classes"):
        table.add_column(heading, justify="right")
    for found in verdict.largest:
        counts = (found.get(key) for key in ("lines", "functions", "classes"))
        table.add_row(found["module"], *("-" if n is None else f"{n:,}" for n in counts))
    return table
