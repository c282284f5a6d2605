"""How a message ends: finished or dead once, in one place; or with its queue, or never there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from line import Line
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from pgqrs import Config, LeaseLostError, QueueMessage, QueueNotFoundError, leasing
from pgqrs.operations import acknowledge
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import BURIED_AT_ONCE

pytestmark = pytest.mark.matrix


@pytest.fixture
def line(config: Config) -> Iterator[Line]:
    with closing(Line(config)) as line:
        yield line


def lease(line: Line) -> QueueMessage:
    message = line.consumer.dequeue()
    assert message is not None
    return message


def spend(line: Line, times: int) -> None:
    """Lease everything `times` times and let it run out."""
    for _ in range(times):
        while line.consumer.dequeue_batch(100):
            pass
        line.expire_all()


def test_archive(line: Line) -> None:
    """Archiving moves the whole message: one place before, one after."""
    line.producer.enqueue({"a": [1]}, priority=7, max_attempts=9)
    held = lease(line)
    assert line.place(held) == "queue"
    archived = line.consumer.archive(held, "shipped", {"ok": True})
    assert line.place(held) == "archive"
    row = line.archived()[held.id]
    assert (row.payload, row.output, row.status) == ({"a": [1]}, {"ok": True}, "shipped")
    same = ("queue_id", "priority", "read_ct", "vt", "enqueued_at", "dequeued_at", "returned_ct")
    same += ("producer_worker_id", "consumer_worker_id", "max_attempts")
    assert [getattr(row, name) for name in same] == [getattr(held, name) for name in same]
    assert (archived.payload, archived.output) == ({"a": [1]}, {"ok": True})
    assert archived.archived_at == row.archived_at > held.enqueued_at


def test_batches_leave_one_place(line: Line) -> None:
    """What is archived, deleted, held or waiting is each in one place."""
    messages = line.producer.batch_enqueue([{}] * 8)
    line.consumer.dequeue_batch(6)
    assert line.consumer.archive_batch(messages[0:1]) == [False], "it was not leased as this"
    ids = [message.id for message in messages]
    assert line.consumer.archive_batch(ids[0:2]) == [True, True]
    assert line.consumer.delete_batch(ids[2:4]) == [True, True]
    places = [line.place(i) for i in ids]
    assert places == ["archive"] * 2 + ["gone"] * 2 + ["queue"] * 4


@pytest.mark.parametrize(
    ("message", "queue", "config", "limit"), [(2, 3, 4, 2), (None, 3, 4, 3), (None, None, 4, 4)]
)
def test_dead(dsn: str, message: int | None, queue: int | None, config: int, limit: int) -> None:
    """After max_attempts (of the message, else the queue, else the configuration) it is dead.

    The ordinary dequeue of any consumer gives out the next one, and its next call archives it.
    """
    settings = Config.from_dsn(dsn, max_attempts=config)
    with closing(Line(settings, max_attempts=queue)) as line:
        first = line.producer.enqueue({"n": 1}, max_attempts=message)
        for attempt in range(1, limit + 1):
            assert lease(line).read_ct == attempt
            assert line.other.dequeue() is None
            assert line.place(first) == "queue"
            line.expire_all()
        second = line.producer.enqueue({"n": 2})
        following = line.other.dequeue()
        assert following is not None
        assert following.id == second.id
        assert line.other.dequeue() is None
        row = line.archived()[first.id]
        assert (row.status, row.payload, row.read_ct) == ("dead", {"n": 1}, limit)
        assert "ran out" in row.error
        assert row.consumer_worker_id == line.consumer.worker_id


def test_dead_only_after_the_last_lease_ran_out(line: Line) -> None:
    """The holder of the last attempt may still finish it, as long as nobody buried it."""
    line.producer.enqueue({}, max_attempts=1)
    last = lease(line)
    assert line.other.dequeue() is None
    line.come_due(last)
    assert line.consumer.archive(last).status == "completed"
    line.producer.enqueue({}, max_attempts=1)
    late = lease(line)
    line.come_due(late)
    assert line.other.dequeue() is None
    with pytest.raises(LeaseLostError):
        line.consumer.archive(late)
    assert line.archived()[late.id].status == "dead"


def test_buried_at_once(line: Line) -> None:
    """One lease buries at most `BURIED_AT_ONCE`, so that no dequeue takes long."""
    line.producer.batch_enqueue([{}] * (BURIED_AT_ONCE * 2 + 50), max_attempts=1)
    spend(line, 1)
    dead = []
    for _ in range(4):
        assert line.consumer.dequeue() is None
        dead.append(len(line.archived()))
    assert dead == [100, 200, 250, 250]
    assert line.waiting() == {}


def test_what_somebody_holds_is_buried_later(
    line: Line, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not asked for at each lease meanwhile."""
    tried: list[int] = []
    real = leasing.operations.bury

    def bury(*terms: Any) -> int:
        tried.append(real(*terms))
        return tried[-1]

    monkeypatch.setattr(leasing.operations, "bury", bury)
    line.producer.enqueue({}, max_attempts=1)
    spend(line, 1)
    with engine.begin() as connection:
        connection.execute(text("SELECT FROM pgqrs.pgqrs_messages FOR UPDATE"))
        for _ in range(5):
            assert line.consumer.dequeue() is None
    assert tried == [0]
    assert line.other.dequeue() is None
    assert tried == [0, 1]


def test_release_costs_no_attempt(line: Line) -> None:
    """Given back any number of times, a message loses no attempt, and read_ct never goes down."""
    message = line.producer.enqueue({}, max_attempts=2)
    for times in range(1, 21):
        held = lease(line)
        assert (held.read_ct, held.returned_ct, held.attempts) == (times, times - 1, 1)
        line.consumer.release(held)
    assert (line.row(message).read_ct, line.row(message).returned_ct) == (20, 20)
    line.come_due(lease(line))
    last = lease(line)
    assert (last.read_ct, last.attempts) == (22, 2)
    assert line.consumer.archive(last).read_ct == 22


def test_late_release_costs_no_attempt(line: Line) -> None:
    """A lease that ran out may still be given back while nobody took the message."""
    message = line.producer.enqueue({}, max_attempts=1)
    for _ in range(3):
        held = lease(line)
        line.come_due(held)
        line.consumer.release(held, delay=60)
        line.come_due(held)
    assert lease(line).attempts == 1
    line.expire_all()
    assert line.consumer.dequeue() is None
    assert (line.place(message), line.archived()[message.id].read_ct) == ("archive", 4)


def test_read_ct_never_goes_down(line: Line) -> None:
    """Leases, releases, extensions, expiry, pause and archive never lower the read count."""
    message = line.producer.enqueue({}, max_attempts=100)
    seen = []
    for step in range(12):
        held = lease(line)
        seen.append(held.read_ct)
        if step % 3 == 0:
            line.consumer.release(held, delay=step % 2)
        elif step % 3 == 1:
            line.consumer.extend_visibility(held, 60)
        line.come_due(held)
        seen.append(line.row(message).read_ct)
    assert seen == sorted(seen)
    assert line.consumer.archive(lease(line)).read_ct == 13


@pytest.mark.parametrize("mode", ["full", "meta", "none"])
def test_archive_modes(config: Config, mode: str) -> None:
    """`full` keeps all, `meta` no payload and no output, `none` nothing of what completed.

    What failed or died is kept, whole but under `meta`, and batches do as single calls do.
    """
    with closing(Line(config, archive_mode=mode)) as line:
        ids = [m.id for m in line.producer.batch_enqueue([{"a": 1}] * 5, max_attempts=1)]
        line.consumer.dequeue_batch(5)
        kept = {ids[0]: line.consumer.archive(ids[0], output=[1])}
        kept[ids[1]] = line.consumer.archive(ids[1], "failed", output=[1])
        assert line.consumer.archive_batch([ids[2]]) == [True]
        line.consumer.delete(ids[3])
        line.expire_all()
        assert line.consumer.dequeue() is None
        rows = {i: (row.status, row.payload, row.output) for i, row in line.archived().items()}
        payload, output = (None, None) if mode == "meta" else ({"a": 1}, [1])
        wanted = {ids[1]: ("failed", payload, output), ids[4]: ("dead", payload, None)}
        if mode != "none":
            wanted |= {ids[0]: ("completed", payload, output), ids[2]: ("completed", payload, None)}
        assert rows == wanted
        assert {(m.payload == payload, m.output == output) for m in kept.values()} == {(True, True)}
        assert line.waiting() == {}


def test_purge(line: Line) -> None:
    """Purging empties the queue; who held a message learns so, and the archive stays."""
    line.producer.batch_enqueue([{}] * 4)
    line.producer.enqueue_delayed({}, 60)
    done, held, other = line.consumer.dequeue_batch(3)
    line.consumer.archive(done)
    assert line.admin.purge_queue("work") == 4
    assert (line.waiting(), list(line.archived())) == ({}, [done.id])
    with pytest.raises(LeaseLostError):
        line.consumer.archive(held)
    with pytest.raises(LeaseLostError):
        line.consumer.extend_visibility(held.id, 60)
    assert line.consumer.archive_batch([held, other.id]) == [False, False]
    line.producer.enqueue({})
    assert lease(line).read_ct == 1


@pytest.mark.parametrize("used", [False, True])
def test_queue_made_again(line: Line, used: bool) -> None:  # noqa: FBT001
    """Producers and consumers outlive their queue: not found while it is gone, then they go on."""
    if used:
        line.producer.enqueue({"old": 1})
        stale = lease(line)
    line.admin.delete_queue("work", force=True)
    for act in (line.consumer.dequeue, lambda: line.producer.enqueue({})):
        with pytest.raises(QueueNotFoundError) as missing:
            act()
        assert missing.value.queue == "work"
    with pytest.raises(QueueNotFoundError):
        line.producer.batch_enqueue([{}, {}])
    line.admin.create_queue("work")
    assert line.consumer.dequeue() is None
    message = line.producer.enqueue({"new": 1})
    found = lease(line)
    assert (found.id, found.payload) == (message.id, {"new": 1})
    if used:
        with pytest.raises(LeaseLostError):
            line.consumer.archive(stale.id)
    assert line.consumer.archive(found.id).status == "completed"


@pytest.mark.parametrize("bind", ["connection", "session"])
@pytest.mark.parametrize("commit", [False, True])
def test_callers_transaction(line: Line, engine: Engine, bind: str, commit: bool) -> None:  # noqa: FBT001
    """Enqueued and archived within the caller's transaction: with its commit, or not at all."""
    line.producer.enqueue({"n": 0})
    held = lease(line)
    caller: Any = engine.connect() if bind == "connection" else Session(engine)
    with caller:
        line.producer.within(caller).enqueue({"n": 1})
        line.producer.within(caller).batch_enqueue([{"n": 2}, {"n": 3}], delay=60)
        line.consumer.within(caller).archive(held.id)
        assert list(line.waiting()) == [held.id]
        assert line.other.dequeue() is None
        caller.commit() if commit else caller.rollback()
    assert sorted(row.payload["n"] for row in line.waiting().values()) == (
        [1, 2, 3] if commit else [0]
    )
    assert line.place(held) == ("archive" if commit else "queue")
    if not commit:
        assert line.consumer.archive(held.id).status == "completed"


def test_lost_reply(line: Line) -> None:
    """Sent again after a lost reply, an acknowledgement finds what it did; not what died since."""
    line.producer.batch_enqueue([{}, {}], max_attempts=1)
    done, died = line.consumer.dequeue_batch(2)
    ledger, worker = line.consumer._steps.ledger, line.consumer.worker_id
    assert worker is not None
    ledger.sending([Fence(done.id, 1), Fence(died.id, 1)])  # and the replies never came
    with line.admin.pool.connect() as c:
        assert acknowledge.archive_many(c, "pgqrs", worker, [Fence(done.id, 1)])
    line.come_due(died)
    assert line.other.dequeue() is None
    assert line.archived()[died.id].status == "dead"
    assert line.consumer.archive_batch([done, died]) == [True, False]
    assert line.consumer.archive_batch([done, died]) == [False, False]
