"""What a message is given beside its payload: each option has its effect, in its order."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from line import Line
from sqlalchemy import event, text
from waiting import until

from pgqrs import Admin, Config, Message, NewMessage, PayloadError, Producer, QueueMessage
from pgqrs.operations.acknowledge import fence_of
from pgqrs.operations.settle import Extended, Extension, extend_many
from pgqrs.runner.holds import Holds
from pgqrs.runner.task import Task

pytestmark = pytest.mark.matrix

QUIET = {
    "heartbeat_interval_seconds": 3600,
    "stale_after_seconds": 7200,
    "enable_listen_notify": False,
    "poll_interval_seconds": 0.05,
}
ID = uuid.UUID("8a1f5c1e-0000-4000-8000-000000000001")
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def line(dsn: str) -> Iterator[Line]:
    line = Line(Config.from_dsn(dsn, **QUIET))
    yield line
    line.close()


def leased_for(message: QueueMessage) -> float:
    assert message.dequeued_at is not None
    return (message.vt - message.dequeued_at).total_seconds()


class Order(Message):
    number: int


def test_the_message_comes_before_the_call_and_the_queue(line: Line) -> None:
    """And what it leaves open is as the call has it; ids are in the order given."""
    batch = [
        NewMessage("1", priority=5, headers={"n": 1}),
        "2",
        NewMessage(Order(number=3), max_attempts=9, delay=60),
        NewMessage(4, deliver_at=dt.datetime.now(dt.UTC) + HOUR),
    ]
    found = line.producer.batch_enqueue(
        batch, priority=2, max_attempts=7, delay=10, headers={"of": "call"}
    )
    assert [message.id for message in found] == sorted(message.id for message in found)
    assert [message.priority for message in found] == [5, 2, 2, 2]
    assert [message.max_attempts for message in found] == [7, 7, 9, 7]
    assert [message.headers for message in found] == [{"n": 1}, *[{"of": "call"}] * 3]
    assert found[2].message_type == "order"
    waits = [(message.vt - message.enqueued_at).total_seconds() for message in found]
    assert waits[:3] == [10, 10, 60]
    assert 3500 < waits[3] <= 3600
    line.come_due(*found)
    for sent, leased in zip(found, sorted(line.consumer.dequeue_batch(9), key=_id), strict=True):
        assert (leased.payload, leased.headers) == (sent.payload, sent.headers)


def _id(message: QueueMessage) -> int:
    return message.id


def test_a_time_of_delivery_that_is_past_is_now(line: Line) -> None:
    """Such a message is due, and found by its time like one that came due."""
    past = dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=17, microseconds=5)))
    message = line.producer.enqueue(1, deliver_at=past)
    assert message.vt == past
    assert line.admin.queue_metrics("work").pending == 1
    assert line.consumer.dequeue() is not None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"deliver_at": dt.datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001 - that it has none
        ({"deliver_at": dt.datetime.now(dt.UTC), "delay": 1}, "not both"),
        ({"deliver_at": dt.datetime(1, 1, 1, tzinfo=dt.timezone(HOUR))}, "1970"),
        ({"deliver_at": dt.datetime.max.replace(tzinfo=dt.UTC)}, "9000"),
        ({"priority": 32768}, "priority"),
        ({"priority": True}, "priority"),
        ({"max_attempts": 2.0}, "max_attempts"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"expire_in": 0}, "longer than 0"),
        ({"retry_delay": -1}, "duration"),
        ({"retain_for": dt.timedelta(days=40000)}, "duration"),
        ({"dead_letter": "no spaces"}, "queue name"),
        ({"singleton_key": "k" * 256, "singleton_for": 1}, "key"),
        ({"ordering_key": "\0"}, "key"),
        ({"singleton_key": "\ud800", "singleton_for": 1}, "key"),
        ({"message_id": "17"}, "UUID"),
        ({"headers": {"pgqrs": 1}}, "pgqrs"),
        ({"headers": ["a"]}, "dict"),
    ],
)
def test_a_bad_option_is_refused(options: dict[str, Any], complaint: str, line: Line) -> None:
    """Before anything is sent, whether it is the call's or the message's."""
    with pytest.raises(ValueError, match=complaint):
        line.producer.enqueue(1, **options)
    with pytest.raises(ValueError, match=complaint):
        line.producer.batch_enqueue([1, NewMessage(2, **options)])
    assert line.drain() == []


def test_headers_are_small_json(line: Line) -> None:
    """What they are is kept and given back, in the archive too."""
    for headers in ({"a": object()}, {"a": "x" * 17_000}):
        with pytest.raises(PayloadError):
            line.producer.enqueue(1, headers=headers)
    line.producer.enqueue(1, headers={"traceparent": "00-abc", "n": [1, None]})
    message = line.consumer.dequeue()
    assert message is not None
    assert message.headers == {"traceparent": "00-abc", "n": [1, None]}
    assert line.consumer.archive(message).headers == message.headers
    with pytest.raises(TypeError, match="no option 'prority'"):
        line.producer.enqueue(1, prority=3)  # type: ignore[call-overload]


# Attempts


def test_each_attempt_has_its_time(line: Line) -> None:
    """Whatever the queue and the consumer say."""
    line.admin.update_queue("work", visibility_timeout=50)
    line.producer.batch_enqueue([1, NewMessage(2, expire_in=7.5)])
    assert [leased_for(m) for m in line.consumer.dequeue_batch(2)] == pytest.approx(
        [50, 7.5], abs=0.01
    )
    line.expire_all()
    assert [leased_for(m) for m in line.consumer.dequeue_batch(2, 90)] == pytest.approx(
        [90, 7.5], abs=0.01
    )


def test_a_run_does_not_extend_an_attempt_beyond_its_time(line: Line) -> None:
    """The message is leased again then, while the first handler is still at it."""
    line.producer.enqueue(1, expire_in=0.4, max_attempts=2)
    begun: list[int] = []

    def handle(message: QueueMessage) -> None:
        begun.append(message.read_ct)
        until(lambda: 2 in begun)
        line.consumer.stop()

    line.consumer.run(handle, concurrency=2)
    assert begun == [1, 2]


def test_what_waits_for_a_handler_keeps_its_lease_and_its_time(line: Line) -> None:
    """However long one takes that came before: no attempt is lost to waiting.

    And nobody is extended by the time of another.
    """
    line.admin.update_queue("work", visibility_timeout=3)
    short = NewMessage(3, expire_in=3, max_attempts=1)
    line.producer.batch_enqueue([1, NewMessage(2, expire_in=3600), *[short] * 4])
    begun: list[int] = []

    def extended() -> list[dt.timedelta]:
        left = "SELECT vt - clock_timestamp() FROM pgqrs.pgqrs_messages"
        pushed_out = " WHERE vt - dequeued_at BETWEEN interval '3.3 s' AND interval '1 minute'"
        return [row[0] for row in line.execute(left + pushed_out)]

    def handle(message: QueueMessage) -> None:
        begun.append(message.payload)
        if message.payload == 1:
            left = until(lambda: len(found := extended()) == 5 and found, seconds=9)
            assert max(left) <= dt.timedelta(seconds=3)
        if len(begun) == 6:
            line.consumer.stop()

    line.consumer.run(handle, concurrency=1)
    assert begun == [1, 2, 3, 3, 3, 3]
    assert [row.status for row in line.archived().values()] == ["completed"] * 6


def test_each_lease_is_extended_by_its_own_length(line: Line) -> None:
    """And ends so long after its handler began, where each attempt has its time."""
    line.producer.batch_enqueue([1, *(NewMessage(n, expire_in=10) for n in (2, 3, 4))])
    plain, waits, begun, over = map(fence_of, line.consumer.dequeue_batch(4))
    line.execute("UPDATE pgqrs.pgqrs_messages SET vt = now() + interval '3 s'")
    line.come_due(over.message_id)
    asked = [Extension(plain, 30.0, 25.0), Extension(waits, 10.0), Extension(begun, 10.0, 4.0)]
    with line.admin.pool.connect() as connection:
        worker_id = line.row(plain.message_id).consumer_worker_id
        held = extend_many(connection, "pgqrs", worker_id, [*asked, Extension(over, 10.0, 6.0)])
    left = {fence: (each.left, each.is_limited) for fence, each in held.items()}
    near = functools.partial(pytest.approx, abs=1)
    assert left == {plain: (near(30), False), waits: (near(10), True), begun: (near(6), True)}


def test_a_lease_that_ends_is_looked_at_when_it_has_ended(line: Line) -> None:
    """Not again and again before."""
    line.producer.enqueue(1, expire_in=10)
    (message,) = line.consumer.dequeue_batch(1)
    task = Task([message], "work", batch=False, time_limit=None, until=float("inf"))
    holds, now = Holds(), time.monotonic()
    holds.take([message], now - 6)
    length = pytest.approx(10, abs=0.5)
    assert holds.to_extend([task]) == [Extension(fence_of(message), length, None)]
    task.begin()
    (extension,) = holds.to_extend([task])
    assert extension.spent is not None
    held = {extension.fence: Extended(4.0, is_limited=True)}
    assert holds.extended([extension], held, now) == set()
    assert holds.to_extend([task]) == []
    assert 3 < holds.next_extension() <= 4
    assert holds.extended([extension], {}, now) == {extension.fence}
    assert holds.until([message]) < now


def test_each_message_has_its_retry_delay(line: Line) -> None:
    """With backoff or without; one of the call of `fail` comes first."""
    line.admin.update_queue("work", retry_delay=1, retry_backoff=False)
    line.producer.batch_enqueue(
        [
            1,
            NewMessage(2, retry_delay=100),
            NewMessage(3, retry_delay=100, retry_backoff=True, retry_delay_max=150),
        ]
    )
    waits: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for _ in range(3):
        for message in line.consumer.dequeue_batch(3):
            line.consumer.fail(message, "why")
            after = line.admin.get_message(message.id)
            now = line.execute("SELECT clock_timestamp()")[0][0]
            waits[message.payload].append((after.vt - now).total_seconds())
            line.come_due(message)
    assert max(waits[1]) <= 1
    assert all(99 < wait <= 100 for wait in waits[2])
    assert 79 < waits[3][0] <= 120
    assert 119 < waits[3][2] <= 150
    (message, *_) = line.consumer.dequeue_batch(3)
    line.consumer.fail(message, "why", delay=0)
    line.come_due(message)


def test_each_message_has_its_dead_letter_queue(line: Line) -> None:
    """Or none, though the queue has one; one that is gone by then leaves no copy."""
    for name in ("usual", "own", "gone"):
        line.admin.create_queue(name)
    line.admin.update_queue("work", dead_letter="usual", max_attempts=1)
    line.producer.batch_enqueue(
        [
            1,
            NewMessage(2, dead_letter="own"),
            NewMessage(3, dead_letter=""),
            NewMessage(4, dead_letter="gone"),
        ]
    )
    line.admin.delete_queue("gone")
    for message in line.consumer.dequeue_batch(4):
        line.consumer.fail(message, "why")
    copies = {name: [m.payload for m in line.admin.messages(name)] for name in ("usual", "own")}
    assert copies == {"usual": [1], "own": [2]}
    assert len(line.admin.dead_letters("work")) == 4


# Keeping


def keep_until(line: Line, seconds: float) -> None:
    """Let so much of the time pass that anything is kept for."""
    line.execute(
        "UPDATE pgqrs.pgqrs_keys SET until = until - :span * interval '1 s';", span=seconds
    )
    line.execute(
        "UPDATE pgqrs.pgqrs_archive SET archived_at = archived_at - :span * interval '1 s'",
        span=seconds,
    )
    line.execute("UPDATE pgqrs.pgqrs_messages SET vt = vt - :span * interval '1 s'", span=seconds)


def expire_in_a_round(line: Line) -> int:
    """Give how many messages expire in one round of maintenance, which ends."""
    asked = itertools.count()

    def count(_connection: Any, _cursor: Any, sent: str, *_: object) -> None:
        assert next(asked) < 50, sent

    event.listen(line.admin.pool, "before_cursor_execute", count)
    try:
        return line.admin.maintain().expired_messages
    finally:
        event.remove(line.admin.pool, "before_cursor_execute", count)


@pytest.mark.parametrize("how", ["postponed", "resumed"])
def test_nothing_expires_before_it_was_due_for_so_long(how: str, line: Line) -> None:
    """Whatever put the time off at which it is due."""
    message = line.producer.enqueue(1, retain_for=60)
    if how == "postponed":
        line.producer.extend_visibility(message, 3600)
        keep_until(line, 3599)
    else:
        keep_until(line, 50)
        line.admin.cancel_messages(message.id)
        line.admin.resume_messages(message.id)
    keep_until(line, 59)
    assert expire_in_a_round(line) == 0
    assert line.admin.get_message(message.id).archived_at is None
    keep_until(line, 2)
    assert expire_in_a_round(line) == 1


def test_a_round_of_maintenance_ends(line: Line) -> None:
    """Though what it has looked at is to be looked at again at once."""
    line.producer.enqueue(1, retain_for=1e-4)
    assert line.consumer.dequeue() is not None
    assert expire_in_a_round(line) == 0


def test_what_is_locked_expires_in_the_next_round(line: Line) -> None:
    """And a crowd of that keeps nobody behind it waiting."""
    many, behind = 1_100, 10
    held = line.producer.batch_enqueue([NewMessage(0, retain_for=1e-4)] * many)
    line.producer.batch_enqueue([NewMessage(1, retain_for=1e-4)] * behind)
    transacting = line.admin.pool.execution_options(isolation_level="READ COMMITTED")
    with transacting.connect() as connection:
        locking = "SELECT 1 FROM pgqrs.pgqrs_messages WHERE id <= :last FOR UPDATE"
        connection.execute(text(locking), {"last": held[-1].id})
        assert expire_in_a_round(line) == behind
        connection.rollback()
    assert expire_in_a_round(line) == many


def test_what_nobody_leases_expires(line: Line) -> None:
    """Its time counts from when it is due, and what was leased once stays."""
    expired, tried, _ = line.producer.batch_enqueue(
        [NewMessage(1, retain_for=60), NewMessage(2, retain_for=60, priority=1), 3]
    )
    delayed = line.producer.enqueue(4, retain_for=60, delay=60)
    message = line.consumer.dequeue()
    assert message is not None
    assert message.id == tried.id
    line.consumer.fail(message, "why", delay=3600)
    keep_until(line, 59)
    assert line.admin.maintain().expired_messages == 0
    keep_until(line, 2)
    assert line.admin.maintain().expired_messages == 1
    assert line.admin.get_message(expired.id).status == "expired"
    assert line.admin.get_message(tried.id).archived_at is None
    keep_until(line, 60)
    assert line.admin.maintain().expired_messages == 1
    assert line.admin.get_message(delayed.id).status == "expired"


def test_the_archive_keeps_a_message_for_its_time(line: Line) -> None:
    """Longer than the queue's retention, or shorter; then it is deleted, and its key with it."""
    line.admin.update_queue("work", retention=100)
    line.producer.batch_enqueue([1, NewMessage(2, retain_for=50), NewMessage(3, retain_for=200)])
    line.consumer.archive_batch(line.consumer.dequeue_batch(3))

    def left() -> list[int]:
        line.admin.maintain()
        return sorted(message.payload for message in line.admin.archived_messages("work"))

    assert left() == [1, 2, 3]
    keep_until(line, 49)
    assert left() == [1, 2, 3]
    keep_until(line, 2)
    assert left() == [1, 3]
    keep_until(line, 50)
    assert left() == [3]
    keep_until(line, 98)
    assert left() == [3]
    keep_until(line, 2)
    assert left() == []
    line.admin.maintain()
    assert line.execute("SELECT count(*) FROM pgqrs.pgqrs_keys") == [(0,)]


def test_an_operators_purge_spares_nobody(line: Line) -> None:
    """Nor does the deletion of a queue."""
    line.producer.batch_enqueue([NewMessage(n, retain_for=200) for n in range(3)])
    line.consumer.archive_batch(line.consumer.dequeue_batch(2))
    assert line.admin.purge_archive("work") == 2
    line.admin.delete_queue("work", force=True)
    assert line.execute("SELECT count(*) FROM pgqrs.pgqrs_keys") == [(0,)]


def test_a_replay_is_kept_as_long_as_the_first(line: Line) -> None:
    """It has the same options, and no id of the caller's."""
    first = line.producer.enqueue(1, retain_for=60, message_id=ID)
    line.admin.cancel_messages(first.id)
    again = line.admin.replay(first.id)
    assert again.message_id is None
    keep_until(line, 61)
    assert line.admin.maintain().expired_messages == 1
    assert line.admin.get_message(again.id).options == {"retain_for": 60}


def test_an_instant_is_a_datetime(config: Config, admin: Admin) -> None:
    """Text and numbers are refused, with what was given."""
    admin.create_queue("q")
    with Producer(config, "q") as producer:
        for instant in ("2030-01-01T00:00:00Z", 1e9, dt.date(2030, 1, 1)):
            with pytest.raises(TypeError, match="deliver_at is a datetime, not"):
                producer.enqueue(1, deliver_at=instant)  # type: ignore[call-overload]
