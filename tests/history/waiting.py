"""Judges who waits: nothing better is passed over for long, and nobody asks in vain beside it.

A message waits from when it is due, or from when its lease ran out, until it is leased again or
finished: as far as both are known by the server's clock. Who takes or finds nothing meanwhile may
have met it in the hands of another transaction, so once is no fault; three times over `bound`
microseconds are.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from history.past import Past
from history.records import UNKNOWN, Lease

ENOUGH = 3
FOREVER = 1 << 62


class Wait(NamedTuple):
    """How long one message waited: from when on it was due, and when that ended."""

    urgency: tuple[int, int]
    since: int
    until: int


@dataclass
class _Meetings:
    """When others came by a waiting message."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, at: int) -> None:
        self.first = self.first if self.count else at
        self.last, self.count = at, self.count + 1

    def are_too_many(self, bound: int) -> bool:
        return self.count >= ENOUGH and self.last - self.first >= bound


@dataclass
class _Line:
    """Who waits at one moment, the most urgent first, and whom each of them met."""

    waits: list[Wait] = field(default_factory=list)
    passed: dict[Wait, _Meetings] = field(default_factory=dict)
    unheard: dict[Wait, _Meetings] = field(default_factory=dict)

    def join(self, wait: Wait) -> None:
        insort(self.waits, wait)

    def leave(self, wait: Wait) -> None:
        del self.waits[bisect_left(self.waits, wait)]

    def leased(self, at: int, urgency: tuple[int, int]) -> None:
        for wait in self.waits[: bisect_left(self.waits, (urgency,))]:  # type: ignore[type-var]
            self.passed.setdefault(wait, _Meetings()).add(at)

    def nothing(self, at: int) -> None:
        for wait in self.waits:
            self.unheard.setdefault(wait, _Meetings()).add(at)


def judge_waiting(past: Past, bound: int) -> None:
    """Say what was passed over, or lay there while somebody asked, for `bound` microseconds."""
    line = _Line()
    for at, what, about in sorted(_events(past)):
        if what == "1 join":
            line.join(about)
        elif what == "0 leave":
            line.leave(about)
        elif what == "2 lease":
            line.leased(at, about)
        else:
            line.nothing(at)
    for wait, meetings in line.passed.items():
        if meetings.are_too_many(bound):
            past.blame("passed over", (wait, meetings))
    for wait, meetings in line.unheard.items():
        if meetings.are_too_many(bound):
            past.blame("asked in vain beside what was due", (wait, meetings))


def _events(past: Past) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    for each in past.ids():
        for wait in _waits(past, each):
            if wait.since < wait.until:
                yield wait.since, "1 join", wait
                yield wait.until, "0 leave", wait
    for operation in past.operations:
        if operation.leases:  # the whole statement is one meeting
            worst = max(_urgency(past, lease.id) for lease in operation.leases)
            yield max(lease.begun for lease in operation.leases), "2 lease", worst
        elif operation.vain:
            yield operation.vain, "3 nothing", ()


def _urgency(past: Past, each: int) -> tuple[int, int]:
    row = past.rest.get(each)
    return (-(past.priority_of.get(each, 0) if row is None else row.priority), each)


def _waits(past: Past, each: int) -> Iterator[Wait]:
    """Give when a message is known to have waited all the time."""
    urgency, leases = _urgency(past, each), past.leases.get(each, {})
    if each in past.due and (until := _next(past, each, 0)):
        yield Wait(urgency, past.due[each], until)
    for lease, _ in leases.values():
        since = _over(past, lease)
        if since and (until := _next(past, each, lease.read_ct)):
            yield Wait(urgency, since, until)


def _over(past: Past, lease: Lease) -> int:
    """Give when a lease ran out, if nobody ended it before and it is known."""
    unknown = any(
        outcome == UNKNOWN and operation.kind == "extend" and not operation.until
        for operation, outcome in past.tried(lease)
    )
    return 0 if unknown or past.given_back(lease) else past.until(lease, at_most=True)


def _next(past: Past, each: int, count: int) -> int:
    """Give when a message was leased or finished after this read count, if that is known."""
    following = past.leases.get(each, {}).get(count + 1)
    if following is not None:
        return following[0].begun
    row = past.rest.get(each)
    if row is None or row.read_ct != count:
        return 0
    return FOREVER if row.status is None else row.ended
