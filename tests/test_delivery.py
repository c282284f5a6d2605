"""What a lease gives: which messages, in which order, for how long, and to whom."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing

import pytest
from line import Line
from sqlalchemy import Engine

from pgqrs import Config, Consumer
from pgqrs.statements.lease import PROMOTED_AT_ONCE

pytestmark = pytest.mark.matrix

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def line(config: Config) -> Iterator[Line]:
    with closing(Line(config)) as line:
        yield line


def about(duration: dt.timedelta, seconds: float) -> bool:
    return abs(duration.total_seconds() - seconds) < 1


def test_empty(line: Line) -> None:
    """Where nothing is due, a lease is None, or an empty list."""
    assert line.consumer.dequeue() is None
    assert line.consumer.dequeue_batch(10) == []


@pytest.mark.parametrize("who", ["consumer", "sibling", "other"])
def test_expiry_redelivers(line: Line, who: str) -> None:
    """An expired lease is given out by the ordinary dequeue of any consumer, itself included."""
    message = line.producer.enqueue({"n": 1})
    line.consumer.dequeue()
    assert getattr(line, who).dequeue() is None
    line.come_due(message)
    again = getattr(line, who).dequeue()
    assert (again.id, again.read_ct, again.payload) == (message.id, 2, {"n": 1})
    assert again.consumer_worker_id == getattr(line, who).worker_id
    assert getattr(line, who).dequeue() is None


def test_expiry_of_a_batch_redelivers_all(line: Line) -> None:
    """When a consumer is gone, all that it held comes to the others."""
    messages = line.producer.batch_enqueue([{}] * 40)
    line.consumer.dequeue_batch(40)
    line.expire_all()
    again = line.other.dequeue_batch(40)
    assert [message.id for message in again] == [message.id for message in messages]
    assert {message.read_ct for message in again} == {2}


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_late_ones_before_a_backlog(line: Line, batch: int) -> None:
    """Due delayed and expired messages go by priority in the very next lease, despite a backlog."""
    expired = line.producer.enqueue({}, priority=3)
    line.consumer.dequeue()
    delayed = line.producer.enqueue({}, priority=5, delay=60)
    low = line.producer.enqueue({}, priority=-1, delay=60)
    backlog = line.producer.batch_enqueue([{}] * 20)
    line.come_due(low, expired, delayed)
    leased = [message.id for _ in range(5) for message in line.other.dequeue_batch(batch)]
    expected = [delayed.id, expired.id, *(message.id for message in backlog), low.id]
    assert leased == expected[: len(leased)]


def test_older_delayed_before_younger_ready(line: Line) -> None:
    """Among equals the oldest id goes first, whichever way it became due."""
    first = line.producer.enqueue({}, delay=60)
    second = line.producer.enqueue({})
    third = line.producer.enqueue({}, delay=60)
    line.come_due(third, first)
    assert [message.id for message in line.drain()] == [first.id, second.id, third.id]


@pytest.mark.parametrize("how", ["delayed", "expired"])
@pytest.mark.parametrize("heads", [1, PROMOTED_AT_ONCE + 20])
def test_a_low_head_hides_nothing(line: Line, how: str, heads: int) -> None:
    """Less urgent messages that came due earlier do not keep better ones waiting.

    One lease looks at the first `PROMOTED_AT_ONCE`; what it passes over waits in the ready line.
    """
    delay = 60 if how == "delayed" else 0
    low = line.producer.batch_enqueue([{}] * heads, delay=delay)
    high = line.producer.enqueue({}, priority=9, delay=delay)
    if how == "expired":
        while line.consumer.dequeue_batch(100):
            pass
    line.producer.batch_enqueue([{}] * 10, priority=5)
    line.come_due(*low, high)
    leased = [message.priority for message in (line.other.dequeue(), line.other.dequeue())]
    assert leased == ([9, 5] if heads == 1 else [5, 9])
    assert {message.read_ct for message in line.drain()} == ({1} if delay else {1, 2})
    assert len(line.waiting()) == heads + 11


def test_order(line: Line) -> None:
    """Higher priority first, then the oldest id, one at a time and in a batch."""
    priorities = [0, 5, -3, 5, 32767, 0, -32768, 1]
    messages = [line.producer.enqueue({}, priority=priority) for priority in priorities]
    expected = [m.id for m in sorted(messages, key=lambda m: (-m.priority, m.id))]
    singles = [line.consumer.dequeue() for _ in range(3)]
    batch = line.consumer.dequeue_batch(100)
    assert [message.id for message in (*singles, *batch) if message] == expected


def test_delayed_waits(line: Line) -> None:
    """A delayed message is not given out before its time, and is by anyone after."""
    message = line.producer.enqueue_delayed({}, HOUR)
    assert about(message.vt - message.enqueued_at, 3600)
    assert line.consumer.dequeue() is None
    line.come_due(message)
    leased = line.other.dequeue()
    assert leased is not None
    assert (leased.id, leased.read_ct) == (message.id, 1)


def test_released_with_delay_waits(line: Line) -> None:
    """A message given back with a delay comes again after it, one without at once."""
    message = line.producer.enqueue({})
    line.consumer.release(line.consumer.dequeue())
    again = line.consumer.dequeue()
    assert again is not None
    line.consumer.release(again, delay=HOUR)
    assert line.consumer.dequeue() is None
    line.come_due(message)
    assert [m.read_ct for m in line.drain()] == [3]


def test_nobody_leases_twice(line: Line) -> None:
    """An unexpired lease is nobody else's, whoever asks and however often."""
    line.producer.batch_enqueue([{}] * 3)
    takers = (line.consumer, line.sibling, line.other)
    leased = [message.id for taker in takers for message in taker.dequeue_batch(2)]
    assert len(leased) == len(set(leased)) == 3
    assert all(taker.dequeue() is None for taker in takers)


def test_pause_and_resume(line: Line) -> None:
    """A paused queue gives nothing from the next lease on, and resumes as fast; leases go on."""
    first, second = line.producer.batch_enqueue([{}, {}])
    held = line.consumer.dequeue()
    assert line.admin.pause_queue("work").paused
    assert line.consumer.dequeue() is None
    assert line.other.dequeue_batch(5) == []
    line.producer.enqueue({})
    assert line.consumer.archive(held).id == first.id
    assert not line.admin.resume_queue("work").paused
    leased = line.other.dequeue()
    assert leased is not None
    assert leased.id == second.id


@pytest.mark.parametrize("status", ["stopped", "suspended"])
def test_worker_status(line: Line, status: str) -> None:
    """A suspended or stopped worker gets nothing at once, whoever said so; others go on."""
    line.producer.batch_enqueue([{}, {}, {}])
    held = line.consumer.dequeue()
    line.execute(
        "UPDATE pgqrs.pgqrs_workers SET status = CAST(:status AS text),"
        " shutdown_at = CASE WHEN :status = 'stopped' THEN now() END WHERE id = :id",
        status=status,
        id=line.consumer.worker_id,
    )
    assert line.consumer.dequeue() is None
    assert line.sibling.dequeue() is None
    assert line.other.dequeue() is not None
    assert line.consumer.archive(held).status == "completed"
    line.execute("UPDATE pgqrs.pgqrs_workers SET status = 'ready', shutdown_at = NULL")
    assert line.sibling.dequeue() is not None


@pytest.mark.parametrize(
    ("call", "queue", "seconds"), [(50, 70, 50), (None, 70, 70), (None, None, 90), (0.5, None, 0.5)]
)
def test_visibility_timeout(
    dsn: str, call: float | None, queue: float | None, seconds: float
) -> None:
    """The timeout of the call wins over the queue's, and that over the configuration's."""
    config = Config.from_dsn(dsn, default_lock_time_seconds=90)
    with closing(Line(config, visibility_timeout=queue)) as line:
        line.producer.batch_enqueue([{}, {}])
        for message in [line.consumer.dequeue(call), *line.other.dequeue_batch(1, vt=call)]:
            assert message is not None
            assert message.dequeued_at is not None
            assert about(message.vt - message.dequeued_at, seconds)


def test_timeout_changes_at_once(line: Line) -> None:
    """A queue's new timeout holds for the next lease, and not for those there are."""
    line.producer.batch_enqueue([{}, {}])
    before = line.consumer.dequeue()
    line.admin.update_queue("work", visibility_timeout=dt.timedelta(minutes=10))
    after = line.consumer.dequeue()
    assert before is not None
    assert after is not None
    assert about(after.vt - before.vt, 600 - 30)
    assert line.row(before).vt == before.vt


def test_max_batch_size(dsn: str) -> None:
    """A lease of more than `max_batch_size` gives that many; less than one is an error."""
    with closing(Line(Config.from_dsn(dsn, max_batch_size=7))) as line:
        line.producer.batch_enqueue([{}] * 20)
        assert len(line.consumer.dequeue_batch(1000)) == 7
        assert len(line.consumer.dequeue_batch(6)) == 6
        with pytest.raises(ValueError, match="at least 1"):
            line.consumer.dequeue_batch(0)


def test_queues_are_apart(line: Line) -> None:
    """A consumer gets the messages of its own queue, due, delayed and expired alike."""
    line.admin.create_queue("elsewhere")
    with Consumer(line.config, "elsewhere") as stranger:
        ready, held, delayed = line.producer.batch_enqueue([{}] * 3)
        assert line.consumer.dequeue() is not None
        line.consumer.release(line.consumer.dequeue(), delay=60)
        line.come_due(ready, held, delayed)
        assert stranger.dequeue_batch(10) == []
        assert len(line.other.dequeue_batch(10)) == 3


def test_rolled_back_lease(line: Line, engine: Engine) -> None:
    """Within a transaction a rollback gives the lease and the attempt back."""
    message = line.producer.enqueue({})
    with engine.connect() as connection:
        leased = line.consumer.within(connection).dequeue()
        assert leased is not None
        assert leased.read_ct == 1
        assert line.other.dequeue() is None
        connection.rollback()
    assert line.row(message).read_ct == 0
    again = line.other.dequeue()
    assert again is not None
    assert again.read_ct == 1


def test_vt_of_a_century(line: Line) -> None:
    """A lease or delay may be 100 years, and is refused beyond, before anything happens."""
    line.producer.enqueue({}, delay=dt.timedelta(days=36525))
    line.producer.enqueue({})
    with pytest.raises(ValueError, match="100 years"):
        line.consumer.dequeue(vt=dt.timedelta(days=36526))
    held = line.consumer.dequeue(vt=dt.timedelta(days=36525))
    assert held is not None
    assert line.consumer.dequeue() is None
    assert line.consumer.archive(held).status == "completed"
