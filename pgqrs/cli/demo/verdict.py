"""Whether the demo went well: what was sent, held against what the database says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pgqrs.cli.demo.records import ArchivedFile
from pgqrs.cli.demo.source import library_root

__all__ = ["Killed", "Verdict", "judge"]

_LARGEST: Final = 10


@dataclass(frozen=True, slots=True)
class Killed:
    """The consumer that was killed, and the read counts of the messages it held then."""

    pid: int
    worker_id: int
    held: Mapping[int, int]

    def came_back(self, read_counts: Mapping[int, int]) -> int:
        """Count which of them were leased once more."""
        return sum(read_counts.get(key, 0) > count for key, count in self.held.items())


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome; it is good when there are no `problems`.

    `redelivered` messages were leased more than once, `came_back` are those of them that the
    killed consumer had held.
    """

    files: int
    archive_rows: int
    seconds: float
    messages_per_second: float
    redelivered: int
    held_by_killed: int
    came_back: int
    lines: int
    functions: int
    classes: int
    not_python: int
    largest: Sequence[Mapping[str, Any]]
    problems: Sequence[str]


def judge(
    sent: Sequence[tuple[int, str]],
    rows: Sequence[ArchivedFile],
    left: int,
    killed: Killed | None,
    seconds: float,
) -> Verdict:
    """Compare what was sent, as (id, path), with the rows in the archive and what is `left`."""
    came_back = killed.came_back({row.id: row.read_ct for row in rows}) if killed else 0
    problems = [*_of_rows(sent, rows), *_of_queue(left, killed, came_back)]
    return Verdict(
        files=len(sent),
        archive_rows=len(rows),
        seconds=round(seconds, 3),
        messages_per_second=round(len(rows) / seconds, 1) if seconds else 0.0,
        redelivered=sum(row.read_ct > 1 for row in rows),
        held_by_killed=len(killed.held) if killed else 0,
        came_back=came_back,
        lines=_sum(rows, "lines"),
        functions=_sum(rows, "functions"),
        classes=_sum(rows, "classes"),
        not_python=sum("error" in row.output for row in rows),
        largest=_largest(rows),
        problems=problems,
    )


def _of_rows(sent: Sequence[tuple[int, str]], rows: Sequence[ArchivedFile]) -> Iterable[str]:
    if len({message_id for message_id, _ in sent}) < len(sent):
        yield "the same id was given to several messages"
    wanted, found = set(sent), {(row.id, row.path) for row in rows}
    if wanted - found:
        yield f"{len(wanted - found):,} messages have no archive row"
    if found - wanted:
        yield f"{len(found - wanted):,} archive rows are of messages that were not sent"
    twice = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if twice:
        yield f"{len(twice):,} files have more than one archive row"
    unfinished = sum(row.status != "completed" for row in rows)
    if unfinished:
        yield f"{unfinished:,} messages were archived, but not as completed"


def _of_queue(left: int, killed: Killed | None, came_back: int) -> Iterable[str]:
    if left:
        yield f"{left:,} messages are still in the queue"
    if killed is None:
        yield "no consumer was killed while it held messages: there were too few"
    elif not came_back:
        yield "no message of the killed consumer came back"


def _sum(rows: Sequence[ArchivedFile], key: str) -> int:
    return sum(row.output.get(key, 0) for row in rows)


def _largest(rows: Sequence[ArchivedFile]) -> list[dict[str, Any]]:
    root = library_root()
    by_lines = sorted(rows, key=lambda row: row.output.get("lines", 0), reverse=True)
    return [
        {"module": str(Path(row.path).relative_to(root)), **row.output}
        for row in by_lines[:_LARGEST]
    ]
