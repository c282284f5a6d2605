"""How results look: tables for people, and one document for programs, which is in `formats`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from pgqrs.cli.formats import JSON_FIELDS, Format, Rows, document, field_names, fields, rows
from pgqrs.errors import PgqrsError

__all__ = ["Output", "console", "counted", "field_names", "fields", "present", "printable"]

_UNLIMITED: Final = 100_000
_LONGEST_CELL: Final = 1_000
_WHOLE: Final = {int, float, bool, dt.datetime, dt.timedelta, type(None)}
"""What is not broken over lines, and neither is what is no longer than:"""
_SHORT: Final = 12
_COUNTS: Final = ("pending", "delayed", "locked", "archived", "dead", "total_messages")
_HEADINGS: Final = {
    "consumer_worker_id": "worker id",
    "oldest_pending_age": "oldest",
    "queue_name": "queue",
    "rate_in": "in /s",
    "rate_out": "out /s",
    "read_ct": "read_ct",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """Prints results on standard output, or into the file `out`, which is made then."""

    form: Format = Format.TABLE
    out: str | None = None

    @property
    def for_programs(self) -> bool:
        """Whether a program reads it: then standard output is one document and nothing else."""
        return self.form is not Format.TABLE

    def one(self, value: Any, columns: Sequence[str] = ()) -> None:
        """Print one thing: fields below each other (all, unless named), or an object."""
        record = fields(value)
        if self.for_programs:
            self._document(record, columns)
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name in columns or record:
            table.add_row(_heading(name), _cell(name, record[name], record))
        with self.stream() as stream:
            present(table, stream)

    def many(
        self,
        values: Iterable[Any],
        columns: Sequence[str],
        nothing: str,
        every: Sequence[str] = (),
    ) -> None:
        """Print things: a table of some fields, or an array of all; `nothing` if there is none.

        `every` names all the fields where they are more, for the heading of a CSV without rows.
        """
        records = [fields(value) for value in values]
        if self.for_programs:
            self._document(records, every or columns)
        elif records:
            with self.stream() as stream:
                present(_table(records, columns), stream)
        else:
            self._sentence(nothing)

    def done(self, sentence: str, **facts: Any) -> None:
        """Print that something was done: a sentence, or an object of facts."""
        if self.for_programs:
            self._document(facts, ())
        else:
            self._sentence(sentence)

    @contextmanager
    def rows(self, columns: Sequence[str], every: Sequence[str]) -> Iterator[Rows]:
        """Give what prints things as they come: a line of some fields each, or all for programs."""
        with self.stream() as stream:
            yield rows(self.form, stream, every) if self.for_programs else _Lines(stream, columns)

    @contextmanager
    def lines(self, every: Sequence[str]) -> Iterator[Rows]:
        """Give what prints things as they come for programs, also where no format was asked for."""
        with self.stream() as stream:
            yield rows(self.form, stream, every)

    @contextmanager
    def stream(self) -> Iterator[TextIO]:
        """Give where results go. Raises PgqrsError where the file cannot be written."""
        if self.out is None:
            yield sys.stdout
            return
        try:
            opened = Path(self.out).open("w", encoding="utf-8", newline="")  # noqa: SIM115 - below
        except OSError as error:
            raise PgqrsError(f"file {self.out!r} cannot be written: {error.strerror}") from None
        with opened as stream:
            yield stream

    def _document(self, value: Any, columns: Sequence[str]) -> None:
        with self.stream() as stream:
            narrow = "utf" not in (stream.encoding or "").lower()
            stream.write(document(self.form, value, columns, ascii_only=narrow))

    def _sentence(self, sentence: str) -> None:
        with self.stream() as stream:
            console(stream).print(sentence, soft_wrap=True)


class _Lines:
    """Rows of a table whose end is not known: columns as wide as their first line needs."""

    def __init__(self, stream: TextIO, columns: Sequence[str]) -> None:
        self._stream = stream
        self._columns = columns
        self._widths: list[int] = []

    def add(self, record: Mapping[str, Any]) -> None:
        cells = [_cell(name, record[name], record).plain for name in self._columns]
        if not self._widths:
            headings = [_heading(name) for name in self._columns]
            pairs = zip(headings, cells, strict=True)
            self._widths = [max(len(heading), len(cell) + 1) for heading, cell in pairs]
            self._print(headings)
        self._print(cells)

    def flush(self) -> None:
        self._stream.flush()

    def _print(self, cells: Sequence[str]) -> None:
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        self._stream.write("  ".join(padded).rstrip() + "\n")


def console(stream: TextIO) -> Console:
    """Give a console that prints data as they are; lines are as long as need be in a pipe."""
    made = Console(file=stream, markup=False, highlight=False, emoji=False)
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made.width = _UNLIMITED
    return made


def present(picture: RenderableType, stream: TextIO | None = None) -> None:
    """Print a picture on standard output, in a pipe without the spaces at the ends of lines."""
    target = sys.stdout if stream is None else stream
    out = console(target)
    if isinstance(picture, Table) and _width(picture, out) > out.width:
        picture.padding = 0
    if out.is_terminal:
        out.print(picture)
        return
    with out.capture() as printed:
        out.print(picture)
    target.writelines(f"{line.rstrip()}\n" for line in printed.get().splitlines())


def _width(table: Table, on: Console) -> int:
    return Measurement.get(on, on.options.update(max_width=_UNLIMITED), table).maximum


def counted(number: int, noun: str) -> str:
    """Give a number of things in words."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def printable(text: str, keep: str = "") -> str:
    """Give text in which whatever could steer a terminal is spelled out."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def _table(records: list[dict[str, Any]], columns: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        kinds = {type(record[name]) for record in records}
        justify: JustifyMethod = "right" if kinds <= {int, float, type(None)} else "left"
        cells = (_cell(name, record[name], record) for record in records)
        whole = kinds <= _WHOLE or max((cell.cell_len for cell in cells), default=0) <= _SHORT
        table.add_column(_heading(name), justify=justify, overflow="fold", no_wrap=whole)
    for record in records:
        table.add_row(*(_cell(name, record[name], record) for name in columns))
    return table


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.replace("_", " "))


def _cell(name: str, value: Any, record: Mapping[str, Any]) -> Text:
    if value is None:
        return Text("-", "dim")
    if name in JSON_FIELDS:
        return Text(_shortened(printable(json.dumps(value, ensure_ascii=False))))
    if isinstance(value, dict):
        counts = ", ".join(f"{key}: {number:,}" for key, number in value.items())
        return Text(_shortened(printable(counts or "-")))
    if name in _COUNTS and not isinstance(value, bool):
        limit = record.get("limit")
        return Text(f"{value:,}" + ("+" if limit is not None and value >= limit else ""))
    return Text(_shortened(printable(_for_people(value))))


def _for_people(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, dt.datetime):
        try:
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
        except OverflowError:  # at the end of the calendar
            return value.isoformat(" ", "seconds")
    if isinstance(value, dt.timedelta):
        rounded = dt.timedelta(seconds=round(value.total_seconds()))
        seconds = f"{value.total_seconds():.3f}".rstrip("0").rstrip(".")
        return str(rounded) if value >= dt.timedelta(minutes=2) else f"{seconds} s"
    return str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + "…"
