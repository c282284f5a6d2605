"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import sqlalchemy
from rich.console import Console
from rich.table import Table

import pgqrs
from benchmarks.results import Result, shown
from benchmarks.sections import SECTIONS, Section
from benchmarks.stage import Stage

__all__ = ["About", "about", "forget", "load", "rows", "save", "show"]

NAME = "results.json"

About = dict[str, Any]


def about(stage: Stage) -> About:
    """Say where it is measured, and when."""
    return {
        "pgqrs": pgqrs.__version__,
        "server": str(stage.server.version),
        "sqlalchemy": sqlalchemy.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "day": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def rows(section: Section, results: Sequence[Result]) -> list[list[str]]:
    """Give the table of a section, its head first; what is empty throughout is left out."""
    head = ["figure", "contender", "median", "of psycopg", section.first, "rounds from … to"]
    lines = [line_of(each, results) for each in results if each.section == section.name]
    kept = [column for column in zip(head, *lines, strict=True) if any(column[1:])]
    return [list(line) for line in zip(*kept, strict=True)]


def line_of(each: Result, results: Sequence[Result]) -> list[str]:
    """Give the line of one result."""
    least, most = shown(min(each.rounds)), shown(max(each.rounds))
    ratios = (each.of_floor(results), each.of_first(results))
    return [
        each.figure,
        each.contender,
        shown(each.median, each.unit),
        *("" if value is None else f"{value:.2f}" for value in ratios),
        f"{least} … {most}" if len(each.rounds) > 1 else "",
    ]


def show(results: Sequence[Result], console: Console) -> None:
    """Print a table for each section: a line for each figure and contender."""
    for section in SECTIONS:
        head, *lines = rows(section, results) or [[]]
        if not lines:
            continue
        table = Table(*head, title=section.title, title_justify="left")
        before = ""
        for line in lines:
            table.add_row("" if line[0] == before else line[0], *line[1:])
            before = line[0]
        console.print(table)


def save(section: str, results: Sequence[Result], what: About, where: Path) -> None:
    """Write the results of a section as JSON, beside those of other sections that are there."""
    where.mkdir(parents=True, exist_ok=True)
    path = where / NAME
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    document[section] = {"about": what, "results": [each.document(results) for each in results]}
    text = json.dumps(document).replace('{"section"', '\n{"section"')
    path.write_text(text + "\n", encoding="utf-8")


def load(where: Path) -> tuple[list[Result], dict[str, About]]:
    """Read what runs saved: all results, and about each section."""
    document = json.loads((where / NAME).read_text(encoding="utf-8"))
    names = [field.name for field in fields(Result)]
    results = [
        Result(**{name: each[name] for name in names})
        for section in document.values()
        for each in section["results"]
    ]
    return results, {name: section["about"] for name, section in document.items()}


def forget(where: Path) -> None:
    """Remove what earlier runs saved."""
    (where / NAME).unlink(missing_ok=True)
