"""The state of one queue in a worker process: what waits, runs and ended. No I/O, no threads.

Everything but `ended` and `running_ids` is called by the one thread of the loop.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pgqrs.consumer_steps import ConsumerSteps
from pgqrs.operations.acknowledge import Fence, fence_of
from pgqrs.operations.settle import Extended, Extension, Finish
from pgqrs.patience import Patience
from pgqrs.runner.holds import Holds
from pgqrs.runner.room import Ahead, Room
from pgqrs.runner.slots import HandlerTimeoutError, Slots
from pgqrs.runner.task import NOT_BEGUN, Failed, Return, Settlement, Task, left_alone, settled
from pgqrs.runner.telling import Teller
from pgqrs.types import QueueMessage

__all__ = ["Lane"]

S = TypeVar("S", bound=Settlement)

_NEVER = float("inf")
_SETTLE_AT_ONCE = 100  # results, for which no more are waited for
_BATCH = 500  # the most leases that one statement settles
_LATELY = 60.0  # seconds
_LONGEST_DELAY = 600  # seconds
_UNKNOWN_A_SECOND = 100  # messages of unknown types that are given back at the least
_SETTLE_AFTER = 0.005  # seconds: what a commit costs, so that one serves many results


class Lane:
    """One queue: what was leased of it and waits, what handlers work at, what is to be settled."""

    def __init__(
        self,
        steps: ConsumerSteps,
        room: Room,
        patience: Patience,
        knows: Callable[[QueueMessage], bool] = lambda _: True,
    ) -> None:
        self.knows = knows
        self.steps = steps
        self.room = room
        self.patience = patience
        self.outbox: deque[Settlement] = deque()
        self.running: dict[Task, None] = {}
        self.slots: Slots
        self._backlog: deque[QueueMessage] = deque()
        self._ended: deque[tuple[Task, Any]] = deque()
        self._holds = Holds()
        self.batch = room.batch_size > 0
        self._at_once = room.concurrency * room.size
        self._ahead = Ahead(room.prefetch, room.prefetch_most, room.size)
        self._first_result_at, self._reach = 0.0, 0
        self._unknown, self._unknown_since = 0, 0.0  # given back lately
        self.is_open = True
        """Whether it may lease: not once its queue is gone, or its worker was stopped."""
        self.has_leased = False
        """Whether a lease was ever answered."""
        self.is_suspect = False
        """Whether something that waits to be settled was refused by the server."""
        self._sent: set[Fence] = set()

    def wanted(self) -> int:
        """Say how many messages there is room for."""
        room = self._room()
        return max(room, self._reach) if room else 0

    def leases_now(self) -> bool:
        """Say whether a lease is worth a round trip: half of the room is free, or nothing waits."""
        room = self._room() if self.is_open else 0
        waits = bool(self._backlog) or self.slots.waiting() > 0
        return room > 0 and (not waits or 2 * room >= self._capacity)

    def settles_now(self) -> bool:
        """Say whether it is time to settle: many, or one that waited, or nothing else to do."""
        if not self.outbox:
            return False
        waited = time.monotonic() - self._first_result_at
        return len(self.outbox) >= _SETTLE_AT_ONCE or waited >= _SETTLE_AFTER or not self.running

    def took(self, messages: Sequence[QueueMessage], now: float) -> None:
        """Take in what was leased; `now` is when it was asked for: no lease began before that."""
        self.has_leased = True
        room, known = self._room(), 0
        self._ahead.leased(full=len(messages) >= min(room, self.steps.config.max_batch_size))
        self._holds.take(messages, now)
        for message in messages:
            if not self.knows(message):
                self.outbox.append(Return(fence_of(message), self._until_known(message, now)))
            elif known < room:
                self._backlog.append(message)
                known += 1
            else:
                self.outbox.append(Return(fence_of(message)))
        # Where all are unknown there may be many: look further next time.
        self._reach = 0 if known else 2 * len(messages)

    def finishes(self) -> list[Finish]:
        """Give what is to be settled, where all of it is finished and no more than a batch."""
        some = self.next_of(Finish)
        return some if len(some) == len(self.outbox) and not self.is_suspect else []

    def next_of(self, kind: type[S]) -> list[S]:
        """Give the next of a kind to settle: a batch, or one alone where one was refused.

        Of each message one, or the end of one lease would be taken for that of another.
        """
        most = 1 if self.is_suspect else _BATCH
        some: dict[int, S] = {}
        for each in self.outbox:
            if isinstance(each, kind):
                some.setdefault(each.fence.message_id, each)
                if len(some) == most:
                    break
        return list(some.values())

    def sending(self, batch: Sequence[Settlement]) -> set[Fence]:
        """Note that these are being settled; give those that were before, without a reply."""
        fences = {each.fence for each in batch}
        again = self._sent & fences
        self._sent |= fences
        return again

    def refused(self, batch: Sequence[Settlement]) -> None:
        """Note that the server took none of these: from now on each is sent alone."""
        self.is_suspect = True
        self._sent -= {each.fence for each in batch}

    def replace(self, old: Settlement, new: Settlement) -> None:
        """Settle something in another way than was tried."""
        self.outbox[self.outbox.index(old)] = new

    def dispatch(self) -> None:
        """Hand over what waits: to handlers that are free, or ahead of them where that is possible.

        What is ahead saves a handler the way through the loop. But a time limit has to be watched
        from its beginning, and a batch may still grow.
        """
        watched = self.batch or self.room.time_limit is not None
        ahead = self.slots.takes_ahead and not watched
        most = self._capacity if ahead else self.room.concurrency
        while self._backlog and len(self.running) < most:
            size = min(self.room.size, len(self._backlog))
            messages = [self._backlog.popleft() for _ in range(size)]
            until = self._holds.until(messages)
            task = Task(messages, self.steps.queue, self.batch, self.room.time_limit, until)
            self.running[task] = None
            self.slots.start(task)

    def ended(self, task: Task, result: Any) -> None:
        """Note what came of a task; for other threads."""
        self._ended.append((task, result))

    def collect(self, *, stopping: bool) -> None:
        """Put what ended into the outbox.

        What is cancelled while `stopping` was cut short by that, and is given back.
        """
        if self._ended and not self.outbox:
            self._first_result_at = time.monotonic()
        while self._ended:
            task, result = self._ended.popleft()
            self.running.pop(task, None)
            cancelled = isinstance(result, asyncio.CancelledError)
            cut_short = task.cancelled or (stopping and not task.timed_out)
            if task.refused:
                self._forget(task)
            elif result is NOT_BEGUN or (cancelled and cut_short):
                self._give_back(task.messages)
            else:
                if cancelled and task.timed_out:
                    result = HandlerTimeoutError(self.room.time_limit)
                self.outbox.extend(settled(task, result, self.failed()))

    def failed(self) -> Failed:
        """Give what is told of the attempts of one task that exceptions ended."""
        return Teller(self.steps.queue).failed

    def overdue(self) -> list[Task]:
        """Give the tasks that are past the time limit and not yet marked so."""
        if self.room.time_limit is None:
            return []
        now = time.monotonic()
        return [t for t in self.running if not t.timed_out and (t.deadline or _NEVER) <= now]

    def next_overdue(self) -> float:
        """Give the seconds until a task is past the time limit."""
        limit, now = self.room.time_limit, time.monotonic()
        if limit is None:
            return _NEVER
        # What has not begun may do so at any moment.
        ends = [task.deadline or now + limit for task in self.running if not task.timed_out]
        return max(min(ends, default=_NEVER) - now, 0.0)

    def has_results(self) -> bool:
        """Say whether tasks ended that were not collected."""
        return bool(self._ended)

    def is_busy(self) -> bool:
        """Say whether anything is still to be done for what was leased."""
        return bool(self.running or self._backlog or self._ended or self.outbox)

    def to_extend(self) -> list[Extension]:
        """Give the leases past half their time, but for those of tasks that overran."""
        return self._holds.to_extend(self.running)

    def extended(
        self, asked: Sequence[Extension], held: Mapping[Fence, Extended], asked_at: float
    ) -> list[Fence]:
        """Note until when leases are held by now; gives those that ran out.

        What had not begun is given back: nobody may have leased it since.
        """
        gone = self._holds.extended(asked, held, asked_at)
        self._give_back(m for m in self._backlog if fence_of(m) in gone)
        self._backlog = deque(m for m in self._backlog if fence_of(m) not in gone)
        for task in self.running:
            if task.begun_at is None:
                task.until = self._holds.until(task.messages)
        return list(gone - left_alone(self.running))

    def next_extension(self) -> float:
        """Give the seconds until a lease may be past half its time."""
        return self._holds.next_extension()

    def abandon(self) -> None:
        """Forget what was leased, and lease no more: it is gone with its queue."""
        self.is_open = False
        self._withdraw()
        self._backlog.clear()
        self.outbox.clear()
        self._holds.clear()

    def ease(self) -> None:
        """Give back most of what was leased ahead, where handlers have turned slow."""
        if self._ahead.ends_in() > 0:
            return
        self._ahead.end()
        self._withdraw()
        kept = [self._backlog.popleft() for _ in range(min(len(self._backlog), self._ahead.count))]
        self._give_back(self._backlog)
        self._backlog = deque(kept)

    def next_easing(self) -> float:
        """Give the seconds until handlers count as slow, if nothing is leased until then."""
        return self._ahead.ends_in()

    def give_up_backlog(self) -> None:
        """Give back what never started."""
        self._withdraw()
        self._give_back(self._backlog)
        self._backlog.clear()

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """Forget leases whose end the server knows, and what was to be said of them."""
        gone = {settlement.fence for settlement in settlements}
        self.outbox = deque(each for each in self.outbox if each.fence not in gone)
        self._sent -= gone
        self._holds.drop(gone)
        if not self.outbox:
            self.is_suspect = False

    def running_ids(self) -> list[int]:
        """Give the messages in the hands of handlers; any thread may ask."""
        begun = [task for task in list(self.running) if task.begun_at is not None]
        return sorted(message.id for task in begun for message in task.messages)

    def _withdraw(self) -> None:
        taken: list[QueueMessage] = []
        for task in self.slots.withdraw():
            self.running.pop(task, None)
            taken += task.messages
        self._backlog.extendleft(reversed(taken))

    def _give_back(self, messages: Iterable[QueueMessage]) -> None:
        self.outbox.extend(Return(fence_of(message)) for message in messages)

    @property
    def _capacity(self) -> int:
        return self._at_once + self._ahead.count

    def _room(self) -> int:
        busy = sum(len(task.messages) for task in self.running)
        return max(self._capacity - busy - len(self._backlog), 0)

    def _until_known(self, message: QueueMessage, now: float) -> dt.timedelta:
        """Give how long a message waits for a worker that knows its type: 1 s to 10 min.

        Longer each time, and the longer the more of them there are: a crowd of them at the head of
        the line is behind the others before the first are back.
        """
        if now - self._unknown_since > _LATELY:
            self._unknown, self._unknown_since = 0, now
        self._unknown += 1
        seconds = 2 ** min(message.returned_ct, 10) + self._unknown // _UNKNOWN_A_SECOND
        return dt.timedelta(seconds=min(seconds, _LONGEST_DELAY))

    def _forget(self, task: Task) -> None:
        self._holds.drop(fence_of(message) for message in task.messages)
