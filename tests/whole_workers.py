"""What is promised of the workers of one queue, as plain Python: their states and signs of life."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from whole_terms import DAY

READY, SUSPENDED, STOPPED = "ready", "suspended", "stopped"


@dataclass
class Worker:
    """One worker; `seen` is when it beat last, or was stopped."""

    seen: float
    status: str = READY


@dataclass
class Staff:
    """The consumers there are, by id, and the time in hours."""

    now: float = 0.0
    workers: dict[int, Worker] = field(default_factory=dict)

    def register(self, worker: int) -> None:
        assert worker > max([0, *self.workers]), "ids of workers only rise"
        self.workers[worker] = Worker(self.now)

    def beat(self, worker: int) -> None:
        """Say that a worker is alive, unless it is stopped or its row is gone."""
        there = self.workers.get(worker)
        if there is not None and there.status != STOPPED:
            there.seen = self.now

    def stop(self, worker: int) -> None:
        there = self.workers.get(worker)
        if there is not None and there.status != STOPPED:
            there.status, there.seen = STOPPED, self.now

    def status(self, worker: int) -> str | None:
        """Give its status; None where its row is gone."""
        return None if worker not in self.workers else self.workers[worker].status

    def may_lease(self, worker: int) -> bool:
        """Say that a worker leases; one whose row is gone registers anew, and does."""
        return self.status(worker) in {READY, None}

    def is_alive(self, worker: int | None) -> bool:
        """Say that a worker is there, not stopped, and beat lately."""
        there = self.workers.get(worker or 0)
        return there is not None and there.status != STOPPED and there.seen == self.now

    def purge(self, holders: Collection[int | None]) -> int:
        """Delete those without a sign of life for a day that hold nothing; says how many."""
        gone = [each for each, one in self.workers.items() if self.now - one.seen > DAY]
        gone = [each for each in gone if each not in holders]
        for each in gone:
            del self.workers[each]
        return len(gone)
