"""Histories that nobody lived, to try the checker on: told call by call, and then changed."""

from __future__ import annotations

import itertools
from typing import Any

from history import OK, Deed, Fence, Lease, Operation, Row, faults


class Story:
    """A history told in order: each call is answered before the next, unless it is not."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.rest: list[Row] = []
        self.deeds: list[Deed] | None = None
        self.clock = itertools.count(1)

    def tell(self, kind: str, *, answered: bool = True, **what: Any) -> Operation:
        self.operations.append(Operation(kind, next(self.clock), worker=7, **what))
        self.operations[-1].answered = next(self.clock) if answered else None
        return self.operations[-1]

    def enqueue(self, *, more: dict[str, Any] | None = None, **ids: int) -> None:
        self.tell("enqueue", keys=[*ids], ids=[*ids.values()], **(more or {}))

    def lease(self, each: int, count: int, begun: int, until: int, key: str = "") -> None:
        lease = Lease(each, count, key or "abcdef"[each - 1], begun, until)
        self.tell("lease", size=1, leases=[lease])

    def act(self, kind: str, each: int, count: int, outcome: str = OK, until: int = 0) -> None:
        self.tell(kind, fences=[Fence(each, count)], outcomes=[outcome], until=until)

    def row(self, each: int, count: int, status: str | None = None, **other: Any) -> None:
        row = Row(each, "abcdef"[each - 1], count, 0, 7 if count else None, status)
        self.rest.append(row._replace(**other))

    def faults(self, **terms: Any) -> list[str]:
        return faults(self.operations, self.rest, 2, self.deeds, **terms)

    def deed(self, what: str, each: int, count: int, begun: int, until: int) -> None:
        lease = Lease(each, count, "abcdef"[each - 1], begun, until)
        self.deeds = [*(self.deeds or []), Deed(what, next(self.clock), 7, lease)]


def said(story: Story, what: str, each: int, count: int) -> int:
    deeds = story.deeds or []
    return [(d.what, *d.lease[:2]) for d in deeds].index((what, each, count))


def forget(story: Story, what: str, each: int, count: int) -> None:
    assert story.deeds
    del story.deeds[said(story, what, each, count)]


def put_off(story: Story, what: str, each: int, count: int) -> None:
    assert story.deeds
    number = said(story, what, each, count)
    story.deeds[number] = story.deeds[number]._replace(at=next(story.clock))


def early(story: Story, kind: str, each: int) -> None:
    """The next lease begins while this one goes on, and it was not given back."""
    drop(story, kind, each, 1)
    edit(story, each, 2, begun=199)


def place(story: Story, kind: str, each: int, count: int) -> int:
    for number, operation in enumerate(story.operations):
        named = [*operation.fences, *(Fence(*lease[:2]) for lease in operation.leases)]
        if operation.kind == kind and (each, count) in named:
            return number
    raise LookupError


def edit(story: Story, each: int, count: int, **new: Any) -> None:
    operation = story.operations[place(story, "lease", each, count)]
    operation.leases = [operation.leases[0]._replace(**new)]


def flip(story: Story, kind: str, each: int, count: int, outcome: str = OK) -> None:
    story.operations[place(story, kind, each, count)].outcomes = [outcome]


def drop(story: Story, kind: str, each: int, count: int) -> None:
    del story.operations[place(story, kind, each, count)]


def move(story: Story, kind: str, each: int, count: int, to: int) -> None:
    operation = story.operations[place(story, kind, each, count)]
    operation.sent = operation.answered = to


def change(story: Story, each: int, **new: Any) -> None:
    story.rest = [row._replace(**new) if row.id == each else row for row in story.rest]
