"""The leases in the hands of a worker: until when, and when each is to be extended. No I/O."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgqrs.operations.acknowledge import Fence, fence_of
from pgqrs.operations.settle import Extended, Extension
from pgqrs.runner.task import Task, left_alone
from pgqrs.types import QueueMessage

__all__ = ["Holds"]

_NEVER: Final = float("inf")
_EXTEND_AT: Final = 0.5  # of a lease, when it is extended
_ALIKE: Final = 0.001  # seconds by which leases may be longer than the one they are kept as


@dataclass(frozen=True, slots=True, eq=False)
class _Hold:
    """A lease, or several alike: until when, on our clock, and how long they were given for."""

    until: float
    length: float
    is_last: bool = False
    """Whether it ends then, though a handler may still be at it."""

    @property
    def look_at(self) -> float:
        """When it is to be extended, or will have run out."""
        return self.until if self.is_last else self.until - self.length * _EXTEND_AT


class Holds:
    """What was leased and is not settled."""

    def __init__(self) -> None:
        self._holds: dict[Fence, _Hold] = {}
        self._look_from = _NEVER  # no lease is to be extended before

    def take(self, messages: Iterable[QueueMessage], asked_at: float) -> None:
        """Take in what was leased: it was asked for at that time, so no lease began before."""
        hold: _Hold | None = None
        for message in messages:
            length = (message.vt - (message.dequeued_at or message.vt)).total_seconds()
            if hold is None or not 0 <= length - hold.length < _ALIKE:
                hold = _Hold(asked_at + length, length)
                self._look_from = min(self._look_from, hold.look_at)
            self._holds[fence_of(message)] = hold

    def until(self, messages: Iterable[QueueMessage]) -> float:
        """Give when the first of these leases runs out; long ago where one is not held."""
        holds = set(map(self._holds.get, map(fence_of, messages)))
        return min(0.0 if hold is None else hold.until for hold in holds)

    def drop(self, fences: Iterable[Fence]) -> None:
        """Forget leases."""
        for fence in fences:
            self._holds.pop(fence, None)

    def clear(self) -> None:
        """Forget all."""
        self._holds.clear()

    def to_extend(self, running: Collection[Task]) -> list[Extension]:
        """Give the leases past half their time, but for those of tasks that overran."""
        now = time.monotonic()
        if now < self._look_from:
            return []
        alone = left_alone(running)
        at = {fence: hold.look_at for fence, hold in self._holds.items() if fence not in alone}
        self._look_from = min(at.values(), default=_NEVER)
        begun = _begun(running)
        return [
            Extension(fence, self._holds[fence].length, _since(begun.get(fence), now))
            for fence in at
            if at[fence] <= now
        ]

    def extended(
        self, asked: Sequence[Extension], held: Mapping[Fence, Extended], asked_at: float
    ) -> set[Fence]:
        """Note until when leases are held by now; gives those that ran out, which are forgotten."""
        for each in asked:
            answer = held.get(each.fence)
            if answer is not None:
                is_last = answer.is_limited and each.spent is not None
                hold = _Hold(asked_at + answer.left, each.length, is_last)
                self._holds[each.fence] = hold
                self._look_from = min(self._look_from, hold.look_at)
        lost = {each.fence for each in asked} - held.keys()
        self.drop(lost)
        return lost

    def next_extension(self) -> float:
        """Give the seconds until a lease may be past half its time."""
        return max(self._look_from - time.monotonic(), 0.0)


def _begun(running: Iterable[Task]) -> dict[Fence, float]:
    begun = ((task.begun_at, task) for task in running)
    return {fence_of(m): at for at, task in begun if at is not None for m in task.messages}


def _since(begun_at: float | None, now: float) -> float | None:
    return None if begun_at is None else max(now - begun_at, 0.0)
