"""Windows and callers' ids: who gets in, who is kept out, and what frees a key."""

from __future__ import annotations

import datetime as dt
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
from line import Line
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session
from waiting import BLOCKED, wait_for
from wire import Wire

from pgqrs import (
    Config,
    DuplicateMessageError,
    NewMessage,
    Producer,
    QueueMessage,
    ThrottledError,
    WorkerStatus,
)

pytestmark = pytest.mark.matrix

QUIET = {
    "heartbeat_interval_seconds": 3600,
    "stale_after_seconds": 7200,
    "enable_listen_notify": False,
}
ID = uuid.UUID("8a1f5c1e-0000-4000-8000-000000000001")
WEEK = dt.timedelta(days=7)


@pytest.fixture
def line(dsn: str) -> Iterator[Line]:
    line = Line(Config.from_dsn(dsn, **QUIET))
    yield line
    line.close()


def keys(line: Line) -> int:
    ((count,),) = line.execute("SELECT count(*) FROM pgqrs.pgqrs_keys")
    return int(count)


def leased(line: Line) -> QueueMessage:
    (message,) = line.consumer.dequeue_batch(1)
    return message


# Windows


def test_no_two_messages_of_a_window_are_closer_than_it_is(line: Line) -> None:
    """However many threads hammer one key, whatever waits for whom."""
    window, until = 0.05, threading.Event()
    threading.Timer(1.2, until.set).start()

    def hammer(_: int) -> list[dt.datetime]:
        came_in = []
        with Producer(line.config, "work") as producer:
            while not until.is_set():
                message = producer.enqueue(
                    1, singleton_for=window, singleton_key="k", on_conflict="skip"
                )
                came_in += [] if message is None else [message.enqueued_at]
        return came_in

    with ThreadPoolExecutor(8) as pool:
        times = sorted(when for some in pool.map(hammer, range(8)) for when in some)
    assert len(times) > 5
    assert min(b - a for a, b in pairwise(times)) >= dt.timedelta(seconds=window)


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"singleton_for": WEEK}, ThrottledError),
        ({"message_id": ID}, DuplicateMessageError),
    ],
)
def test_who_waits_behind_an_uncommitted_winner(
    options: dict[str, Any], error: type[Exception], end: str, engine: Engine, line: Line
) -> None:
    """Is kept out if that commits, and gets in if it rolls back."""
    with engine.connect() as winner, ThreadPoolExecutor(1) as pool:
        line.producer.within(winner).enqueue(1, **options)
        waiting = pool.submit(line.producer.enqueue, 2, **options)
        wait_for(line.admin.pool, BLOCKED)
        winner.commit() if end == "commit" else winner.rollback()
        if end == "commit":
            with pytest.raises(error):
                waiting.result()
        else:
            assert waiting.result().payload == 2
    assert len(line.drain()) == 1


ENDS: dict[str, tuple[Callable[[Line, QueueMessage], object], bool]] = {
    "archived": (lambda line, _: line.consumer.archive(leased(line)), False),
    "deleted": (lambda line, _: line.consumer.delete(leased(line)), False),
    "failed": (lambda line, _: line.consumer.fail(leased(line), "why"), False),
    "cancelled": (lambda line, message: line.admin.cancel_messages(message.id), True),
    "over": (lambda line, _: line.execute("UPDATE pgqrs.pgqrs_keys SET until = now()"), True),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_window_is_open_again(end: str, line: Line) -> None:
    """When its time is over, or its message is cancelled; not when that is finished."""
    message = line.producer.enqueue(1, singleton_for=WEEK, singleton_key="k")
    act, opens = ENDS[end]
    act(line, message)
    again = line.producer.enqueue(2, singleton_for=WEEK, singleton_key="k", on_conflict="skip")
    assert (again is not None) is opens
    if again is not None and end == "over":
        line.admin.cancel_messages(message.id)  # which no longer has it
        with pytest.raises(ThrottledError):
            line.producer.enqueue(3, singleton_for=WEEK, singleton_key="k")


def test_a_window_counts_from_the_end_of_a_wait(line: Line, engine: Engine) -> None:
    """For one whose predecessor rolled back: it is not shorter by the time it waited."""
    with engine.connect() as winner, ThreadPoolExecutor(1) as pool:
        line.producer.within(winner).enqueue(1, singleton_for=WEEK)
        waiting = pool.submit(line.producer.enqueue, 2, singleton_for=WEEK)
        wait_for(line.admin.pool, BLOCKED)
        time.sleep(0.05)
        before = line.execute("SELECT clock_timestamp()")[0][0]
        winner.rollback()
        waiting.result()
    ((until,),) = line.execute("SELECT until FROM pgqrs.pgqrs_keys")
    assert until >= before + WEEK


def test_windows_are_per_key_and_queue(line: Line) -> None:
    """A message without a key has the window of those without one; the error says what it knows."""
    line.admin.create_queue("other")
    for key in (None, "a", "b"):
        line.producer.enqueue(1, singleton_for=WEEK, singleton_key=key)
        with Producer(line.config, "other") as other:
            other.enqueue(1, singleton_for=WEEK, singleton_key=key)
    line.producer.enqueue(1)
    with pytest.raises(ThrottledError) as caught:
        line.producer.enqueue(1, singleton_for=1, singleton_key="a")
    assert (caught.value.queue, caught.value.key, caught.value.index) == ("work", "a", None)
    assert caught.value.retry_after is not None
    assert WEEK - dt.timedelta(minutes=1) < caught.value.retry_after <= WEEK
    assert caught.value.retryable


# Ids


@pytest.mark.parametrize("where", ["waiting", "leased", "archived", "cancelled"])
def test_an_id_is_there_once(where: str, line: Line) -> None:
    """For as long as its message is in the queue or in the archive, and no longer."""
    first = line.producer.enqueue(1, message_id=str(ID))
    assert first.message_id == ID
    if where in ("leased", "archived"):
        message = leased(line)
        assert message.message_id == ID
        if where == "archived":
            assert line.consumer.archive(message).message_id == ID
    elif where == "cancelled":
        line.admin.cancel_messages(first.id)
    with pytest.raises(DuplicateMessageError) as caught:
        line.producer.enqueue(2, message_id=ID)
    assert caught.value.message_id == str(ID)
    line.execute("UPDATE pgqrs.pgqrs_keys SET until = now()")
    line.admin.maintain()
    assert line.producer.enqueue(3, message_id=ID, on_conflict="skip") is None
    line.admin.purge_queue("work")
    line.admin.purge_archive("work")
    line.execute("UPDATE pgqrs.pgqrs_keys SET until = now()")
    line.admin.maintain()
    assert line.producer.enqueue(4, message_id=ID).message_id == ID


def test_no_duplicate_gets_in_while_a_message_moves(engine: Engine, line: Line) -> None:
    """The archive has it before the queue has lost it, for everybody else."""
    line.producer.enqueue(1, message_id=ID)
    message = leased(line)
    with engine.connect() as mover:
        line.consumer.within(mover).archive(message)
        assert line.producer.enqueue(2, message_id=ID, on_conflict="skip") is None
        mover.commit()
    assert line.producer.enqueue(3, message_id=ID, on_conflict="skip") is None


# Refusals


REFUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "window": (ThrottledError, {"singleton_for": 5, "singleton_key": "taken"}),
    "id": (DuplicateMessageError, {"message_id": ID}),
    "both": (
        ThrottledError,
        {"message_id": uuid.uuid4(), "singleton_for": 5, "singleton_key": "taken"},
    ),
    "dead letter queue": (LookupError, {"dead_letter": "nowhere", "message_id": uuid.uuid4()}),
    "key": (ValueError, {"singleton_key": "k"}),
    "ordering key": (ValueError, {"ordering_key": "k"}),
}


@pytest.mark.parametrize("why", REFUSED)
def test_a_refusal_leaves_nothing(why: str, engine: Engine, line: Line) -> None:
    """No message and no key; and in the caller's transaction all goes on. So it is in a batch."""
    error, options = REFUSED[why]
    line.producer.enqueue(0, singleton_for=WEEK, singleton_key="taken")
    line.producer.enqueue(0, message_id=ID)
    before = keys(line)
    fine = NewMessage(
        1, message_id=uuid.uuid4(), singleton_for=5, singleton_key="new", retain_for=9
    )
    batch = [fine, "1", NewMessage(2, **options)]
    with pytest.raises(error):
        line.producer.enqueue(2, **options)
    with pytest.raises(error):
        line.producer.batch_enqueue(batch)
    with engine.connect() as connection:
        within = line.producer.within(connection)
        for _ in range(2):
            with pytest.raises(error):
                within.enqueue(2, **options)
            with pytest.raises(error):
                within.batch_enqueue(batch)
        within.enqueue("3")
        connection.commit()
    assert keys(line) == before
    assert [message.payload for message in line.drain()] == [0, 0, 3]


def test_a_batch_may_go_without_those_kept_out(line: Line) -> None:
    """There is a None for each, also for the second of two of one key; and no key is lost."""
    line.producer.enqueue(0, message_id=ID)
    batch = [
        NewMessage(1, message_id=ID, singleton_for=5, singleton_key="a"),
        NewMessage(2, message_id=uuid.uuid4(), singleton_for=5, singleton_key="b"),
        NewMessage(3, singleton_for=5, singleton_key="b"),
        4,
        NewMessage(5, singleton_for=5, singleton_key="a"),
        NewMessage(6, message_id=ID, singleton_for=5, singleton_key="c"),
        NewMessage(7, singleton_for=5, singleton_key="c"),  # not held up by the one before
    ]
    first = line.producer.batch_enqueue(batch, on_conflict="skip")
    assert [message and message.payload for message in first] == [None, 2, None, 4, 5, None, 7]
    count = line.producer.batch_enqueue(
        [NewMessage(6, singleton_for=5, singleton_key=key) for key in "abd"],
        on_conflict="skip",
        atomic=False,
    )
    assert count == 1
    with pytest.raises(DuplicateMessageError) as caught:
        line.producer.batch_enqueue([1, 2, NewMessage(3, message_id=ID)])
    assert caught.value.index == 2


@pytest.mark.parametrize("policy", ["standard", "short"])
def test_batches_with_the_same_keys_do_not_wait_for_each_other(policy: str, dsn: str) -> None:
    """Their keys are taken in one order, whatever theirs is; windows and policies alike."""
    line = Line(Config.from_dsn(dsn, **QUIET), policy=policy)
    names = [f"k{n:02}" for n in range(200)]
    window = {"singleton_for": 60} if policy == "standard" else {}

    def add(order: int) -> int:
        batch = [NewMessage(1, singleton_key=name, **window) for name in names[::order]]
        with Producer(line.config, "work") as producer:
            return sum(len(producer.batch_enqueue(batch, on_conflict="skip")) for _ in range(15))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(add, [1, -1, 1, -1])) == [3000] * 4
    assert line.admin.queue_metrics("work").pending == len(names)
    line.close()


@pytest.mark.parametrize("count", [1, 2])
def test_a_first_refusal_is_never_seen(count: int, dsn: str) -> None:
    """A producer that does not know the policy yet adds nothing that it then takes back."""
    line = Line(Config.from_dsn(dsn, **QUIET), policy="short")
    line.producer.enqueue(0)
    statements: list[str] = []
    with Producer(line.config, "work", "here", 1) as producer:
        event.listen(
            line.admin.pool,
            "before_cursor_execute",
            lambda _, cursor, statement, *__: statements.append(
                f"{cursor.connection.autocommit} {statement[:20]}"
            ),
        )
        with pytest.raises(DuplicateMessageError):
            producer.batch_enqueue([1, 2]) if count > 1 else producer.enqueue(1, message_id=ID)
        adding = [each for each in statements if "WITH items" in each or "DELETE" in each]
        producer.enqueue(2, singleton_key="k")
        assert producer.status() is WorkerStatus.READY  # its row was not rolled back with that
    assert adding
    assert not [each for each in adding if each.startswith("True")]
    assert keys(line) == 0
    line.close()


def test_a_window_is_one_statement_and_one_round_trip(dsn: str) -> None:
    """As a plain message is."""
    line = Line(Config.from_dsn(dsn, **QUIET))
    line.admin.pool.dispose()
    wire = Wire(line.admin.pool)
    for key in range(8):
        with wire.watched() as traffic:
            line.producer.enqueue(1, singleton_for=60, singleton_key=str(key))
        if key > 1:  # registered, and prepared once
            assert (traffic.statements, traffic.round_trips) == (1, 1), "\n".join(traffic.lines)
    line.close()


def test_a_session_of_the_hosts_takes_keys_with_its_rows(line: Line, engine: Engine) -> None:
    """Rolled back, they are free; committed, they are taken."""
    for end in ("rollback", "commit"):
        with Session(engine) as session:
            message = line.producer.within(session).enqueue(1, message_id=ID)
            assert message.message_id == ID
            getattr(session, end)()
    with pytest.raises(DuplicateMessageError):
        line.producer.enqueue(2, message_id=ID)


def test_at_repeatable_read_a_key_may_abort_the_transaction(line: Line, url: Any) -> None:
    """The one case: the server cannot say who has a key that is newer than the snapshot."""
    engine = create_engine(url, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        line.producer.enqueue(1, message_id=ID)
        with pytest.raises(Exception, match="could not serialize") as caught:
            line.producer.within(connection).enqueue(2, message_id=ID)
    assert getattr(caught.value, "retryable", False)
    assert getattr(caught.value, "sqlstate", "") == "40001"
    engine.dispose()
