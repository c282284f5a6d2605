"""The results in the documentation: a part of one page and the charts beside it, written anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.asking import ROOT
from benchmarks.charts import THEMES, draw
from benchmarks.report import About, rows
from benchmarks.results import Result
from benchmarks.sections import SECTIONS, Section

__all__ = ["DOCS", "write"]

DOCS = ROOT / "docs"
PAGE, CHARTS = "benchmarks.md", "benchmarks"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def write(results: Sequence[Result], about: Mapping[str, About], docs: Path = DOCS) -> None:
    """Replace the part of the page between its two marks, and all charts."""
    page, charts = docs / PAGE, docs / CHARTS
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"{PAGE} has no {BEGIN} … {END}")
    charts.mkdir(exist_ok=True)
    for old in charts.glob("*.svg"):
        old.unlink()
    for section in SECTIONS:
        draw(section, results, charts)
    parts = [
        part(section, mine, about[section.name])
        for section in SECTIONS
        if (mine := [each for each in results if each.section == section.name])
    ]
    text = before + BEGIN + "\n\n" + "\n\n".join(parts) + "\n\n" + END + after
    page.write_text(text, encoding="utf-8")


def part(section: Section, results: Sequence[Result], about: About) -> str:
    """Give the heading, the charts and the table of a section."""
    images = [
        f"![{section.title}]({CHARTS}/{section.name}-{theme.name}.svg#only-{theme.name})"
        for theme in THEMES
    ]
    table = "\n".join(f"    {line}" for line in markdown(rows(section, results)))
    blocks = [
        f"### {section.title}",
        section.about.strip(),
        "\n".join(images),
        f'??? note "{section.title}: the table"',
        table,
        f"    {origin(results, about)}",
    ]
    return "\n\n".join(blocks)


def origin(results: Sequence[Result], about: About) -> str:
    """Say how often, when and on what it was measured."""
    rounds = max(len(each.rounds) for each in results)
    return (
        f"Measured {'once' if rounds == 1 else f'{rounds} times'} on {about['day']}: pgqrs"
        f" {about['pgqrs']}, PostgreSQL {about['server']}, Python {about['python']}, SQLAlchemy"
        f" {about['sqlalchemy']}, {about['machine']} with {about['processors']} processors."
    )


def markdown(lines: list[list[str]]) -> list[str]:
    """Write a table with a head."""
    head, *body = [f"| {' | '.join(line)} |" for line in lines]
    marks = ["---" if name in {"figure", "contender"} else "---:" for name in lines[0]]
    return [head, f"| {' | '.join(marks)} |", *body]
