"""Measure: ``python -m benchmarks``, on an embedded server with durable settings."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
from rich.console import Console

from benchmarks import kinds, pages, report
from benchmarks.results import Result
from benchmarks.scale import DEFAULT, QUICK
from benchmarks.sections import SECTIONS
from benchmarks.stage import Stage

HERE = Path(__file__).parent
NAMES = [section.name for section in SECTIONS]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save; or write what was saved into the documentation."""
    given = parser().parse_args(arguments)
    out = Console()
    if given.docs:
        pages.write(*report.load(given.out))
        out.print("the results are in the documentation")
        return
    who = kinds.own(out.print)
    if given.peers:
        who += kinds.peers(out.print)
    scale = QUICK if given.quick else DEFAULT
    if given.rounds:
        scale = dataclasses.replace(scale, rounds=given.rounds)
    if not given.only:
        report.forget(given.out)
    results: list[Result] = []
    with out.status("") as status, Stage.opened(who, scale, status.update) as stage:
        for name, found in measured(stage, given.only, out.print):
            results += found
            report.save(name, found, report.about(stage), given.out)
    report.show(results, out)
    out.print(f"written to {given.out}")
    if {each.section for each in results} != set(given.only or NAMES):
        sys.exit("some sections could not be measured")


def measured(
    stage: Stage, only: Sequence[str], say: Callable[[str], object]
) -> Iterator[tuple[str, list[Result]]]:
    """Measure section after section; one that fails does not take the others with it."""
    for section in SECTIONS:
        if only and section.name not in only:
            continue
        begun = time.monotonic()
        try:
            with stage.cleared():
                yield section.name, section.measure(stage)
        except (RuntimeError, psycopg.Error) as error:
            say(f"{section.name} could not be measured: {error}")
        else:
            say(f"{section.title}: {time.monotonic() - begun:.0f} s")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=NAMES,
        default=[],
        help="only these sections; of others, saved results stay",
    )
    parser.add_argument("--rounds", type=int, help=f"of each figure ({DEFAULT.rounds})")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="pgqrs alone")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where results go")
    parser.add_argument(
        "--docs", action="store_true", help="measure nothing, put what was saved into the docs"
    )
    return parser


if __name__ == "__main__":
    main()
