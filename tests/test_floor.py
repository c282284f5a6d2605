"""Where leases begin to look: bounds while they are slow, and never for longer than a second."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from line import MESSAGES, Line
from plans import Explainer

from pgqrs import Admin, Config, Json, QueueMessage
from pgqrs.embedded import EmbeddedPostgres
from pgqrs.floor import Bounds, Floor
from pgqrs.operations.lease import Lease
from pgqrs.statements import lease as sql

SPAN = dt.timedelta(minutes=1)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SLOW, QUICK = dt.timedelta(seconds=0.03), dt.timedelta(seconds=0.0002)


class Clock:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def floor(clock: Clock) -> Floor:
    return Floor(clock)


def messages(*ids: int, priority: int = 0) -> list[QueueMessage]:
    return [QueueMessage(n, 1, "0", priority, 1, NOW, NOW, NOW) for n in ids]


def test_quick_leases_look_everywhere(floor: Floor) -> None:
    """Where nothing is slow there are no bounds."""
    floor.found(messages(5, 6), 2, QUICK)
    assert floor.bounds() is None


def test_two_slow_leases_set_the_bounds(floor: Floor) -> None:
    """Which move with what is found, however quick that is."""
    floor.found(messages(3, 4), 2, SLOW)
    assert floor.bounds() is None
    floor.found(messages(6, 5), 2, SLOW)
    assert floor.bounds() == Bounds(0, 5, NOW)
    floor.found(messages(7, 8), 2, QUICK)
    assert floor.bounds() == Bounds(0, 7, NOW)


def test_a_busy_moment_sets_none(floor: Floor) -> None:
    """Nor do two slow leases that are not in a row."""
    for looked_for in (SLOW, QUICK, SLOW):
        floor.found(messages(3), 1, looked_for)
    assert floor.bounds() is None


def test_a_look_at_a_part_sets_none(floor: Floor) -> None:
    """And ends those that were: what is due and was not looked at may be better."""
    for _ in range(3):
        floor.found(messages(3), 1, None)
    assert floor.bounds() is None
    slow(floor, 5)
    floor.found(messages(6), 1, None)
    assert floor.bounds() is None


def test_where_priorities_differ_there_are_no_bounds(floor: Floor) -> None:
    """What is passed over would be of a higher priority."""
    for priority in (5, 3, 2):
        floor.found(messages(3, priority=priority), 1, SLOW)
    assert floor.bounds() is None
    for _ in range(3):
        floor.found(messages(9, priority=3) + messages(5), 2, SLOW)
    assert floor.bounds() is None


def test_another_priority_ends_the_bounds(floor: Floor) -> None:
    """From then on everything is looked at, until two slow leases are alike again."""
    slow(floor, 5)
    floor.found(messages(6, priority=1), 1, SLOW)
    assert floor.bounds() is None


def slow(floor: Floor, *ids: int) -> None:
    """Have two leases be slow."""
    for _ in range(2):
        floor.found(messages(*ids), len(ids), SLOW)
    assert floor.bounds() == Bounds(0, min(ids), NOW)


def test_bounds_end_after_a_second(floor: Floor, clock: Clock) -> None:
    """Finding things does not prolong them; what is slow then sets them again."""
    slow(floor, 5)
    clock.now += 0.9
    floor.found(messages(6), 1, QUICK)
    clock.now += 0.1
    assert floor.bounds() is None
    floor.found(messages(3), 1, SLOW)
    assert floor.bounds() == Bounds(0, 3, NOW)


@pytest.mark.parametrize("found", [[], [5]])
def test_bounds_end_with_a_short_result(floor: Floor, found: list[int]) -> None:
    """And a short result sets none."""
    slow(floor, 5, 6)
    for _ in range(2):
        floor.found(messages(*found), 2, SLOW)
        assert floor.bounds() is None


def test_bounds_are_dropped(floor: Floor) -> None:
    """Something came back that may lie below."""
    slow(floor, 5)
    floor.drop()
    assert floor.bounds() is None


@pytest.fixture
def line(config: Config) -> Iterator[Line]:
    line = Line(config)
    yield line
    line.close()


@pytest.fixture
def quiet_line(quiet_server: EmbeddedPostgres) -> Iterator[Line]:
    """A line where no work of others decides when rows that were rolled back are pruned."""
    config = Config.from_dsn(quiet_server.dsn())
    with Admin(config) as admin:
        admin.install()
    line = Line(config)
    yield line
    line.close()


def bound(line: Line, message: QueueMessage) -> None:
    """Have the next lease begin at a message, as if the last had been slow."""
    assert message.dequeued_at is not None
    bounds = Bounds(message.priority, message.id, message.dequeued_at)
    floor = line.consumer._steps.leaser.floor
    floor._bounds, floor._ranks, floor._until = bounds, {message.priority}, float("inf")


@contextmanager
def watched() -> Iterator[list[str]]:
    """Give the names of the leasing statements that are sent in the block."""
    sent: list[str] = []
    real = {name: getattr(sql, name) for name in ("lease", "lease_above")}
    with pytest.MonkeyPatch.context() as patch:
        for name, build in real.items():
            patch.setattr(sql, name, lambda s, n=name, b=build: sent.append(n) or b(s))
        yield sent


def leased(line: Line, size: int) -> list[object]:
    return [message.payload for message in line.consumer.dequeue_batch(size)]


def test_a_full_lease_above_the_floor(line: Line) -> None:
    """What is below is left alone; what is of a higher priority comes first all the same."""
    line.producer.batch_enqueue([1, 2, 3, 4])
    (first,) = line.consumer.dequeue_batch(1)
    line.producer.enqueue(5)
    line.producer.enqueue("6", priority=2)
    bound(line, replace(first, id=first.id + 2))
    with watched() as sent:
        assert leased(line, 2) == [6, 3]
    assert sent == ["lease_above"]


def test_a_short_lease_is_made_up_for_at_once(line: Line) -> None:
    """In the same call and in order: delayed and expired messages of before, and lower ones."""
    line.producer.batch_enqueue([1, 2, 3])
    late, first = line.consumer.dequeue_batch(2)
    delayed = line.producer.enqueue_delayed("0", 60)
    low = line.producer.enqueue("9", priority=-1)
    bound(line, first)
    line.come_due(late, delayed)
    with watched() as sent:
        assert leased(line, 10) == [1, 3, 0, 9]
    assert sent == ["lease_above", "lease"]
    assert low.id == max(line.waiting())


def test_the_floor_of_a_priority_is_none_of_lower_ones(line: Line) -> None:
    """Of which the oldest comes first, after all of the higher one, also those below the floor."""
    line.producer.batch_enqueue([6, 7])
    line.producer.batch_enqueue(["1", "2", "3"], priority=1)
    (first,) = line.consumer.dequeue_batch(1)
    soon = line.producer.batch_enqueue([8, 9], delay=60)
    line.come_due(*soon)
    bound(line, replace(first, id=first.id + 2))
    with watched() as sent:
        assert leased(line, 4) == [2, 3, 6, 7]
    assert sent == ["lease_above", "lease"]


def test_what_comes_due_meanwhile_is_found(line: Line) -> None:
    """Delayed and expired messages from the bound on, beside a standing line."""
    line.producer.batch_enqueue(range(50))
    (first,) = line.consumer.dequeue_batch(1, vt=0.05)
    soon = line.producer.enqueue_delayed("100", 0.05, priority=5)
    bound(line, first)
    line.execute("SELECT pg_sleep(0.1)")
    with watched() as sent:
        assert leased(line, 2) == [100, 0]
    assert sent == ["lease_above"]
    assert line.row(soon).state == 2


def test_released_and_failed_messages_are_found_at_once(line: Line) -> None:
    """By the consumer that gave them back."""
    line.producer.batch_enqueue(range(5))
    one, two, three = line.consumer.dequeue_batch(3)
    bound(line, three)
    line.consumer.release(one)
    assert leased(line, 1) == [0]
    bound(line, three)
    line.consumer.fail(two, "why", 0)
    assert leased(line, 1) == [1]


def test_in_the_callers_transaction_everything_is_looked_at(line: Line) -> None:
    """There bounds are neither used nor set."""
    line.producer.batch_enqueue([1, 2, 3])
    (first,) = line.consumer.dequeue_batch(1)
    with line.admin.pool.execution_options(isolation_level="READ COMMITTED").begin() as connection:
        joined = line.consumer.within(connection)
        joined._steps.leaser.floor._bounds = Bounds(0, first.id + 2, NOW)
        joined._steps.leaser.floor._until = float("inf")
        (message,) = joined.dequeue_batch(1)
    assert message.payload == 2


def test_a_crowd_that_is_due_is_worked_through_lease_by_lease(line: Line) -> None:
    """A lease looks at a hundred of them at a time; with bounds the next ones look on."""
    line.producer.batch_enqueue(range(1000))
    (first,) = line.consumer.dequeue_batch(1)
    line.producer.batch_enqueue([0] * 400, delay=3600)
    urgent = line.producer.enqueue_delayed(Json("urgent"), 3600, priority=9)
    due = "UPDATE pgqrs.pgqrs_messages SET vt = now() - (1000 - id % 1000) * interval '1 us'"
    line.execute(f"{due} WHERE state = 1")
    bound(line, first)
    taken = [line.consumer.dequeue_batch(1)[0].id for _ in range(8)]
    assert urgent.id in taken


def test_both_ways_of_leasing_find_slow_looks(line: Line) -> None:
    """How long the server looked comes with each lease, fused or not."""
    found: list[Lease] = []
    real = line.consumer._steps.leaser.floor.found

    def spy(messages: list[QueueMessage], size: int, looked_for: dt.timedelta | None) -> None:
        assert looked_for is not None
        assert dt.timedelta() < looked_for < dt.timedelta(seconds=5)
        found.append(Lease(list(messages), None, None))
        real(messages, size, looked_for)

    line.producer.batch_enqueue(range(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line.consumer._steps.leaser.floor, "found", spy)
        messages = line.consumer.dequeue_batch(2)
        line.consumer.archive_and_dequeue(messages, 2)
    assert [len(lease.messages) for lease in found] == [2, 2]


@contextmanager
def held_snapshot(line: Line) -> Iterator[None]:
    """Have another connection hold a snapshot in the block, so that no dead row can be cleaned."""
    engine = line.admin.pool.execution_options(isolation_level="REPEATABLE READ")
    with engine.begin() as connection:
        connection.execute(MESSAGES.select().limit(1))
        yield


def test_with_a_held_snapshot_every_message_comes_in_order(line: Line) -> None:
    """Past thousands of dead rows that nothing can clean, by bounded leases."""
    line.producer.batch_enqueue(range(25_000))
    taken: list[int] = []
    with held_snapshot(line), watched() as sent:
        while messages := line.consumer.dequeue_batch(100):
            taken += [message.payload for message in messages]
            line.consumer.archive_batch(messages)
    assert taken == list(range(25_000))
    assert sent.count("lease_above") > 10


def test_dead_rows_cost_a_bounded_lease_a_tenth_at_most(quiet_line: Line) -> None:
    """In buffers, which repeat exactly, beside the same lease without a dead row before it."""
    explainer = Explainer(quiet_line.config.url)

    def buffers(statement: Any, **bounds: Any) -> int:
        terms = {"queue": 1, "worker": quiet_line.consumer.worker_id, "n": 100, "timeout": SPAN}
        given = {**terms, "default_timeout": SPAN, "default_attempts": 5, **bounds}
        (sent,) = explainer.capture(lambda c: c.execute(statement, given).all())
        return explainer.prepared(sent).buffers

    quiet_line.consumer.heartbeat()
    quiet_line.producer.batch_enqueue(range(20_200))
    clean = buffers(sql.lease("pgqrs"))
    with held_snapshot(quiet_line):
        for _ in range(200):
            last = quiet_line.consumer.dequeue_batch(100)
            quiet_line.consumer.archive_batch(last)
        assert last[-1].dequeued_at is not None
        bounds = {"rank": 0, "floor": last[-1].id, "since": last[-1].dequeued_at}
        everywhere, bounded = (
            buffers(sql.lease("pgqrs")),
            buffers(sql.lease_above("pgqrs"), **bounds),
        )
    explainer.close()
    # Before 18 the index itself is walked, though not the rows: some 300 entries a page.
    walked = 0 if explainer.version >= 18 else 20_000 / 150
    assert everywhere > 1.5 * clean
    assert bounded <= 1.1 * clean + walked
