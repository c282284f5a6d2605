"""The benchmarks report what they say they measure: each section once, in its least form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import kinds, pages, report
from benchmarks.results import Book, Result
from benchmarks.scale import SMOKE
from benchmarks.sections import SECTIONS, Section
from benchmarks.stage import Stage

OURS = {"psycopg", "core", "pgqrs"}
RUNS = {"pgqrs", "pgqrs, deleting"}
ENDS = OURS | RUNS
EXPECTED: dict[str, dict[str, set[str]]] = {
    "rates": {
        "enqueue one": OURS,
        "enqueue one, asyncio": {"pgqrs"},
        "enqueue 1000": OURS,
        "lease and archive one": OURS,
        "fused": OURS,
        "drain by 100": ENDS,
        "drain by 500": ENDS,
        "run, batches of 100": RUNS,
        "run, batches of 500": RUNS,
        "run, 1 at a time": RUNS,
        "run, 8 at a time": RUNS,
        "run, 64 at a time": RUNS,
    },
    "processes": {
        "1 process": ENDS
        | {f"{who}, {how}" for who in RUNS for how in ("run in batches", "run with 32 slots")},
        "2 processes": ENDS | {f"{who}, run in batches" for who in RUNS},
    },
    "parked": {
        "clean": OURS,
        "parked rows": OURS,
        "parked rows and a held snapshot": OURS,
    },
    "waking": {figure: {"psycopg", "pgqrs"} for figure in ("half of them within", "99 % within")},
    "faults": {
        figure: {"connections terminated", "server restarted", "server crashed"}
        for figure in (
            "nothing handled for",
            "handled after that",
            "99 % within, before the fault",
            "99 % within, shortly after that",
            "duplicates",
        )
    },
    "pressure": {
        figure: {
            "nothing else",
            "a held snapshot",
            "four readers",
            "1.5 times the load",
            "a burst",
            "another queue flooded",
        }
        for figure in (
            "99 % leased within",
            "waiting, at most",
            "all of it handled, after the last was sent, in",
            "dead rows, at most",
        )
    },
    "costs": {
        f"{figure}: {cost}": OURS
        for figure in (
            "enqueue one",
            "enqueue 1000",
            "lease and archive one",
            "fused",
            "drain by 100",
        )
        for cost in ("statements", "WAL", "client CPU")
    },
    "footprint": {
        "time of an import": {
            "import sqlalchemy",
            "import pgqrs",
            "from pgqrs import Producer, Consumer",
        },
        "memory of an idle worker": {"pgqrs", "its imports alone", "pgqrs above its imports"},
        "peak of memory with 2,000 messages": {
            "pgqrs, enqueue from an iterator",
            "pgqrs, drain by 100",
        },
    },
    "backlog": {"backlog of 200": OURS, "backlog of 400": OURS},
    "payloads": {
        f"{figure}, {size} bytes": OURS
        for figure in ("enqueue 1000", "drain by 100")
        for size in ("100", "1,000")
    },
}
SLOW = {"processes", "faults", "pressure", "costs", "footprint", "backlog", "payloads"}
"""Left to `make soak`: they start many processes, or a server of their own."""
OPTIONAL = {"pgbench"}
"""Measured where it is installed."""
MAY_BE_NOTHING = {
    "duplicates",
    "memory of an idle worker",
    "peak of memory with 2,000 messages",
    "waiting, at most",
    "dead rows, at most",
}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A server, the floors and pgqrs."""
    with Stage.opened(kinds.own(print), SMOKE, lambda _: None, durable=False) as stage:
        yield stage


def test_every_section_is_expected() -> None:
    """No section is left out of these tests."""
    assert [section.name for section in SECTIONS] == list(EXPECTED)


@pytest.mark.parametrize(
    "section",
    [
        pytest.param(each, id=each.name, marks=[pytest.mark.soak] if each.name in SLOW else [])
        for each in SECTIONS
    ],
)
def test_a_section_reports_its_figures(section: Section, stage: Stage) -> None:
    """Each figure has a value for each contender that can do it, and above nothing."""
    with stage.cleared():
        results = section.measure(stage)
    found: dict[str, set[str]] = {}
    for each in results:
        assert each.section == section.name
        assert each.rounds
        assert each.figure in MAY_BE_NOTHING or min(each.rounds) > 0, each
        found.setdefault(each.figure, set()).add(each.contender)
    assert {name: who - OPTIONAL for name, who in found.items()} == EXPECTED[section.name]


@pytest.fixture
def results() -> list[Result]:
    """What two rounds of a section might be."""
    book = Book("parked")
    for rate in (1000.0, 2000.0):
        book.add("clean", "psycopg", "/s", rate, "clean")
        book.add("clean", "pgqrs", "/s", rate / 2, "clean")
        book.add("parked rows", "pgqrs", "/s", rate / 4, "clean")
    return book.results


def test_results_compare_round_by_round(results: list[Result]) -> None:
    """A ratio is that of the floor in the same rounds, and that of the figure it grows from."""
    floor, clean, parked = results
    assert (floor.median, floor.of_floor(results), floor.of_first(results)) == (1500, None, None)
    assert (clean.of_floor(results), clean.of_first(results)) == (0.5, None)
    assert (parked.of_floor(results), parked.of_first(results)) == (None, 0.5)


def test_results_are_saved_and_shown(results: list[Result], tmp_path: Path) -> None:
    """What is saved is read again, as JSON with the ratios, and printed as a table."""
    report.save("parked", results, {"day": "x"}, tmp_path)
    report.save("waking", [], {"day": "y"}, tmp_path)  # beside the other
    assert report.load(tmp_path) == (results, {"parked": {"day": "x"}, "waking": {"day": "y"}})
    saved = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["parked"]["results"]
    assert [each["of_psycopg"] for each in saved] == [None, 0.5, None]
    console = Console(record=True, width=120)
    report.show(results, console)
    assert "375/s" in console.export_text()


def test_the_page_is_written_from_results(results: list[Result], tmp_path: Path) -> None:
    """Only what stands between the marks is replaced, and each chart is there for both themes."""
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n\n{pages.BEGIN}\nold\n{pages.END}\n\nafter\n", encoding="utf-8")
    keys = ("day", "pgqrs", "server", "python", "sqlalchemy", "machine", "processors")
    for _ in range(2):  # writing again changes nothing
        pages.write(results, {"parked": dict.fromkeys(keys, "x")}, tmp_path)
        text = page.read_text(encoding="utf-8")
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
        assert "Measured 2 times on x" in text
        assert "    | clean | pgqrs | 750/s | 0.50 |  | 500 … 1,000 |" in text
        assert text.count("parked-light.svg") == text.count("parked-dark.svg") == 1
    charts = sorted(path.name for path in (tmp_path / "benchmarks").iterdir())
    assert charts == ["parked-dark.svg", "parked-light.svg"]


def test_a_page_without_marks_is_refused(results: list[Result], tmp_path: Path) -> None:
    """Nothing is written where there is no place for it."""
    (tmp_path / "benchmarks.md").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"benchmarks\.md has no"):
        pages.write(results, {}, tmp_path)
