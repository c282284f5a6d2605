"""Whatever consumers and producers do, in whatever order, the queue does as the model says."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from machine import MOVE, bury_now, run, succeeds
from model import DELAYED, LEASED, Fence, Holder, Queue
from sqlalchemy import text

from pgqrs import Admin, Config, Consumer, Producer, QueueMessage

HOUR = 3600
PRIORITIES = st.integers(-1, 2)
LIMITS = st.integers(1, 3)
SIZES = st.sampled_from([1, 1, 1, 2, 5, 100])
WHO = st.integers(0, 3)
WHICH = st.integers(0, 12)
_numbers = itertools.count()

LOOK = text(
    "SELECT id, state, vt <= statement_timestamp(), priority, read_ct, returned_ct,"
    " consumer_worker_id FROM pgqrs.pgqrs_messages WHERE queue_id = :queue"
)
LOOK_BACK = text(
    "SELECT id, status, read_ct, consumer_worker_id FROM pgqrs.pgqrs_archive"
    " WHERE queue_id = :queue"
)


class Machine(RuleBasedStateMachine):
    """Does each thing to a queue and to the model of it, and compares.

    Consumers 0, 1 and 2 are objects with one worker row; 3 has its own host and port.
    """

    config: ClassVar[Config]
    admin: ClassVar[Admin]

    @initialize()
    def begin(self) -> None:
        number = next(_numbers)
        self.name = f"q{number}"
        self.queue_id = self.admin.create_queue(self.name, visibility_timeout=HOUR).id
        self.producer = Producer(self.config, self.name)
        self.consumers = [Consumer(self.config, self.name) for _ in range(3)]
        self.consumers.append(Consumer(self.config, self.name, "elsewhere", 1))
        for consumer in self.consumers:
            consumer.heartbeat()
        self.connection = self.admin.pool.connect()
        self.holders = [Holder(consumer.worker_id or 0) for consumer in self.consumers]
        assert len({holder.worker for holder in self.holders}) == 2
        self.model = Queue()
        self.leases: list[tuple[int, QueueMessage]] = []
        self.places = 0

    def teardown(self) -> None:
        with contextlib.ExitStack() as stack:
            for each in (self.connection, self.producer, *self.consumers):
                stack.callback(each.close)

    @precondition(lambda self: len(self.model.waiting) < 12)
    @rule(priority=PRIORITIES, limit=LIMITS, delayed=st.booleans())
    def enqueue(self, priority: int, limit: int, *, delayed: bool) -> None:
        delay = HOUR if delayed else 0
        new = self.producer.enqueue({}, priority=priority, delay=delay, max_attempts=limit)
        self.model.enqueue([new.id], priority, limit, delayed=delayed)

    @precondition(lambda self: len(self.model.waiting) < 6)
    @rule(count=st.integers(0, 8), priority=PRIORITIES, limit=LIMITS, delayed=st.booleans())
    def batch_enqueue(self, count: int, priority: int, limit: int, *, delayed: bool) -> None:
        options: dict[str, Any] = {"delay": HOUR if delayed else 0, "max_attempts": limit}
        new = self.producer.batch_enqueue([{}] * count, priority=priority, **options)
        assert len(new) == count
        self.model.enqueue([message.id for message in new], priority, limit, delayed=delayed)

    @precondition(lambda self: self.model.waiting)
    @rule(who=WHO, size=SIZES)
    def lease(self, who: int, size: int) -> None:
        leased = self.consumers[who].dequeue_batch(size)
        bury_now(self.consumers[who])
        dead = {i for i in self.archive() if i not in self.model.archived}
        self.model.bury(dead, len(leased), size)
        wanted = self.model.lease(self.holders[who], size)
        assert [Fence(message.id, message.read_ct) for message in leased] == wanted
        assert {m.consumer_worker_id for m in leased} <= {self.holders[who].worker}
        self.leases += [(who, message) for message in leased]

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, who=st.none() | WHO, by_id=st.booleans(), status=st.sampled_from("ab-"))
    def finish(self, which: int, who: int | None, status: str, *, by_id: bool) -> None:
        who, fence, held = self.chosen(which, who, by_id=by_id)
        act = self.consumers[who].delete if status == "-" else self.consumers[who].archive
        wanted = self.model.finish(self.holders[who], fence, None if status == "-" else status)
        assert succeeds(act, held, *([] if status == "-" else [status])) == wanted

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, who=st.none() | WHO, by_id=st.booleans())
    def extend(self, which: int, who: int | None, *, by_id: bool) -> None:
        who, fence, held = self.chosen(which, who, by_id=by_id)
        wanted = self.model.extend(self.holders[who], fence)
        assert succeeds(self.consumers[who].extend_visibility, held, 2 * HOUR) == wanted

    @precondition(lambda self: self.leases)
    @rule(which=WHICH, who=st.none() | WHO, by_id=st.booleans(), delayed=st.booleans())
    def release(self, which: int, who: int | None, *, by_id: bool, delayed: bool) -> None:
        who, fence, held = self.chosen(which, who, by_id=by_id)
        wanted = self.model.release(self.holders[who], fence, delayed=delayed)
        assert succeeds(self.consumers[who].release, held, HOUR if delayed else 0) == wanted

    @precondition(lambda self: self.leases)
    @rule(
        many=st.lists(st.tuples(WHICH, st.booleans()), max_size=6),
        who=WHO,
        act=st.sampled_from(["archive_batch", "delete_batch", "release"]),
    )
    def batch(self, many: list[tuple[int, bool]], who: int, act: str) -> None:
        chosen = [self.chosen(which, who, by_id=by_id)[1:] for which, by_id in many]
        holder, wanted, seen = self.holders[who], [], set()
        for fence, _ in chosen:
            fresh = None if fence in seen else fence
            seen.add(fence)
            if act == "release":
                wanted.append(self.model.release(holder, fresh, delayed=False))
            else:
                status = "completed" if act == "archive_batch" else None
                wanted.append(self.model.finish(holder, fresh, status))
        found = getattr(self.consumers[who], act)([held for _, held in chosen])
        assert found == wanted

    @precondition(lambda self: self.model.to_come())
    @rule(seed=st.randoms(use_true_random=False), part=st.sampled_from([0.3, 1.0, 1.0]))
    def come_due(self, seed: Any, part: float) -> None:
        """Let some leases run out and some delays end, in any order."""
        late = self.model.to_come()
        some = seed.sample(late, math.ceil(len(late) * part))
        for each in some:
            self.places += 1
            self.connection.execute(MOVE, {"id": each, "place": self.places})
        self.model.come_due(some)

    @precondition(lambda self: self.model.to_come())
    @rule(who=WHO, size=SIZES, seed=st.randoms(use_true_random=False))
    def come_due_and_lease(self, who: int, size: int, seed: Any) -> None:
        """Let all leases run out and all delays end, and somebody take the best at once."""
        self.come_due(seed, 1.0)
        self.lease(who, size)

    @precondition(lambda self: len(self.model.waiting) > 8 and not self.model.archived)
    @rule()
    def purge(self) -> None:
        assert self.admin.purge_queue(self.name) == self.model.purge()

    @precondition(lambda self: not self.model.paused and len(self.leases) % 4 == 3)
    @rule()
    def pause(self) -> None:
        assert self.admin.pause_queue(self.name).paused
        self.model.paused = True

    @precondition(lambda self: self.model.paused)
    @rule()
    def resume(self) -> None:
        assert not self.admin.resume_queue(self.name).paused
        self.model.paused = False

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        rows = self.connection.execute(LOOK, {"queue": self.queue_id}).all()
        found = {row[0]: tuple(row[1:]) for row in rows}
        assert found == {
            m.id: (
                m.state,
                m.came is not None or m.state not in (DELAYED, LEASED),
                m.priority,
                m.read_ct,
                m.returned_ct,
                m.holder,
            )
            for m in self.model.waiting.values()
        }
        assert self.archive() == self.model.archived

    def archive(self) -> dict[int, tuple[Any, ...]]:
        rows = self.connection.execute(LOOK_BACK, {"queue": self.queue_id}).all()
        return {row[0]: tuple(row[1:]) for row in rows}

    def chosen(
        self, which: int, who: int | None, *, by_id: bool
    ) -> tuple[int, Fence | None, QueueMessage | int]:
        """Give a lease there is or was, from the latest on, and who acts on it."""
        taker, message = self.leases[-1 - which % len(self.leases)]
        who = taker if who is None else who
        held = Fence(message.id, message.read_ct)
        fence = self.model.fence(self.holders[who], held, by_id=by_id)
        if not by_id and message.consumer_worker_id != self.holders[who].worker:
            fence = None
        return who, fence, message.id if by_id else message


@pytest.mark.timeout(600)  # finding the shortest sequence that fails takes a while
def test_model(dsn: str) -> None:
    """Any sequence of operations by four consumers gives what the model gives, step by step."""
    run(Machine, Config.from_dsn(dsn), max_examples=100, stateful_step_count=100, derandomize=True)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_model_at_length(dsn: str) -> None:
    """The same, with other sequences each time, more of them and longer ones."""
    run(Machine, Config.from_dsn(dsn), max_examples=300, stateful_step_count=100)
