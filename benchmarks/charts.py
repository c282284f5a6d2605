"""Charts as SVG: a group of bars for each figure, once for light pages and once for dark ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.results import Result, shown
from benchmarks.sections import Section

__all__ = ["THEMES", "draw"]


@dataclass(frozen=True)
class Theme:
    """Colours of one kind of page."""

    name: str
    text: str
    ours: str
    others: str


THEMES = (
    Theme("light", text="#2f3542", ours="#3f51b5", others="#b4bac6"),
    Theme("dark", text="#d5d9e3", ours="#8c9eff", others="#5a6274"),
)
WIDTH, LEFT, LONGEST = 760, 230, 360
BAR, STEP, HEADING = 16, 22, 38


def draw(section: Section, results: Sequence[Result], where: Path) -> None:
    """Write the charts of a section."""
    mine = [each for each in results if each.section == section.name]
    for theme in THEMES if mine else ():
        svg = chart(section, mine, theme)
        (where / f"{section.name}-{theme.name}.svg").write_text(svg, encoding="utf-8")


def chart(section: Section, results: Sequence[Result], theme: Theme) -> str:
    """Draw the figures of a section below one another."""
    lines: list[str] = []
    top = 0
    for figure in dict.fromkeys(each.figure for each in results):
        group = [each for each in results if each.figure == figure]
        most = max(each.median for each in (results if section.one_scale else group))
        heading = f'<text x="{LEFT}" y="{top + 22}" font-weight="bold">{escape(figure)}</text>'
        lines.append(heading)
        for place, each in enumerate(group):
            lines += bar(each, results, top + HEADING + place * STEP - 6, most, theme)
        top += HEADING + len(group) * STEP
    size = f'viewBox="0 0 {WIDTH} {top + 8}" width="{WIDTH}" height="{top + 8}"'
    style = f'font-size="13" font-family="system-ui, sans-serif" fill="{theme.text}"'
    title = f"<title>{escape(section.title)}</title>"
    body = "\n".join([title, *lines])
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} {style}>\n{body}\n</svg>\n'


def bar(each: Result, results: Sequence[Result], top: int, most: float, theme: Theme) -> list[str]:
    """Draw one bar with its name, its value and what it is of the floor."""
    width = max(LONGEST * each.median / most, 1.0) if most else 1.0
    colour = theme.ours if each.contender.startswith("pgqrs") else theme.others
    of_floor = each.of_floor(results)
    value = shown(each.median, each.unit) + ("" if of_floor is None else f"  ({of_floor:.2f})")
    return [
        f'<text x="{LEFT - 8}" y="{top + 13}" text-anchor="end">{escape(each.contender)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{width:.0f}" height="{BAR}" rx="2" fill="{colour}"/>',
        f'<text x="{LEFT + width + 6:.0f}" y="{top + 13}">{escape(value)}</text>',
    ]
