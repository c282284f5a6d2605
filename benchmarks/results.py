"""What was measured: a value a round for each figure and contender, and what it compares with."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["FLOOR", "Book", "Result", "percentile", "ratio", "shown"]

FLOOR = "psycopg"
"""The contender that all others are compared with."""


@dataclass
class Result:
    """What a contender reached in each round.

    `first` is the figure of the same contender that this one grows from, if there is one.
    """

    section: str
    figure: str
    contender: str
    unit: str
    first: str | None = None
    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)

    def of_floor(self, results: Iterable[Result]) -> float | None:
        """Compare with raw psycopg in the same figure, where it has that."""
        if self.contender == FLOOR:
            return None
        return self._of(results, self.figure, FLOOR)

    def of_first(self, results: Iterable[Result]) -> float | None:
        """Compare with what the same contender reached in `first`."""
        if self.first in (None, self.figure):
            return None
        return self._of(results, str(self.first), self.contender)

    def document(self, results: Sequence[Result]) -> dict[str, Any]:
        """Give it as a value for JSON."""
        compared = {"of_psycopg": self.of_floor(results), "of_first": self.of_first(results)}
        return {**asdict(self), "median": self.median, **compared}

    def _of(self, results: Iterable[Result], figure: str, contender: str) -> float | None:
        wanted = (self.section, figure, contender)
        for other in results:
            if (other.section, other.figure, other.contender) == wanted:
                return ratio(self.rounds, other.rounds)
        return None


class Book:
    """Collects the results of a section."""

    def __init__(self, section: str) -> None:
        self._section = section
        self._results: dict[tuple[str, str], Result] = {}

    def add(
        self, figure: str, contender: str, unit: str, value: float, first: str | None = None
    ) -> None:
        """Note what a contender reached in one round."""
        fresh = Result(self._section, figure, contender, unit, first)
        self._results.setdefault((figure, contender), fresh).rounds.append(value)

    @property
    def results(self) -> list[Result]:
        """All of them, a figure's side by side, in the order in which they came."""
        figures = list(dict.fromkeys(figure for figure, _ in self._results))
        return sorted(self._results.values(), key=lambda each: figures.index(each.figure))


def ratio(these: Sequence[float], those: Sequence[float]) -> float:
    """Give the median of the rounds' ratios: what disturbed a round disturbed both in it."""
    if len(these) == len(those) and all(those):
        return statistics.median(a / b for a, b in zip(these, those, strict=True))
    return statistics.median(these) / statistics.median(those)


def percentile(values: Iterable[float], part: float) -> float:
    """Give the value that `part` of them (0 to 1) do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def shown(value: float, unit: str = "") -> str:
    """Write a value so that three digits or more can be read."""
    whole = value >= 100 or value == round(value)
    number = f"{value:,.0f}" if whole else f"{value:.3g}"
    return number + (unit if unit.startswith("/") else f" {unit}".rstrip())
