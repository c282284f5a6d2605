"""The kinds of figures, in the order in which they are measured and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import (
    backlog,
    costs,
    faults,
    footprint,
    parked,
    payloads,
    pressure,
    processes,
    rates,
    waking,
)
from benchmarks.results import Result
from benchmarks.stage import Stage

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True)
class Section:
    """A kind of figures: what it is called, how it is measured, and what readers are told.

    `first` says in words what a figure is compared with beside the floor. The bars of figures
    that compare with one another have one scale.
    """

    name: str
    title: str
    about: str
    measure: Callable[[Stage], list[Result]]
    first: str = ""
    one_scale: bool = False


SECTIONS = (
    Section("rates", "One process", str(rates.__doc__), rates.measure),
    Section(
        "processes",
        "Several processes",
        str(processes.__doc__),
        processes.measure,
        "of one process",
        one_scale=True,
    ),
    Section(
        "parked",
        "Parked rows and a held snapshot",
        str(parked.__doc__),
        parked.measure,
        "of its own, clean",
        one_scale=True,
    ),
    Section("waking", "Time to wake", str(waking.__doc__), waking.measure),
    Section("faults", "After a fault", str(faults.__doc__), faults.measure),
    Section("pressure", "Under pressure", str(pressure.__doc__), pressure.measure),
    Section("costs", "Cost of a message", str(costs.__doc__), costs.measure),
    Section("footprint", "Imports and memory", str(footprint.__doc__), footprint.measure),
    Section(
        "backlog",
        "Growing backlogs",
        str(backlog.__doc__),
        backlog.measure,
        "of the smallest",
        one_scale=True,
    ),
    Section("payloads", "Growing payloads", str(payloads.__doc__), payloads.measure, "of smallest"),
)
