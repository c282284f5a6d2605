"""Finishing and leasing in one statement: both happen, and neither to the other's messages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import pytest
from line import Line

from pgqrs import Config, QueueMessage
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import Lease, Terms
from pgqrs.operations.settle import Finish, finish_and_lease

pytestmark = pytest.mark.matrix


@pytest.fixture
def line(config: Config) -> Iterator[Line]:
    line = Line(config)
    yield line
    line.close()


def turn(line: Line, done: Sequence[QueueMessage], size: int = 10) -> tuple[set[int], Lease]:
    minute = dt.timedelta(minutes=1)
    finishes = [Finish(Fence(m.id, m.read_ct), output="1") for m in done]
    registered = line.consumer._steps.registration
    assert registered.queue_id is not None
    assert registered.worker_id is not None
    holder = (registered.queue_id, registered.worker_id)
    with line.admin.pool.connect() as connection:
        terms = Terms(size, minute, minute, 5)
        held, lease = finish_and_lease(connection, "pgqrs", holder, finishes, terms)
    return {fence.message_id for fence in held}, lease


def leased(line: Line, n: int) -> list[QueueMessage]:
    line.producer.batch_enqueue(range(n))
    return line.consumer.dequeue_batch(n)


def test_one_statement_does_both(line: Line) -> None:
    """What was held is in the archive with its result, and the next are leased in order."""
    first = leased(line, 2)
    line.producer.batch_enqueue(["3", "4", "5"])
    held, lease = turn(line, first, 2)
    assert held == {m.id for m in first}
    assert [m.payload for m in lease.messages] == [3, 4]
    assert [row.output for row in line.archived().values()] == [1, 1]
    assert line.consumer._steps.registration.worker_id == lease.messages[0].consumer_worker_id


def test_nothing_left_to_lease(line: Line) -> None:
    """The count comes with the row that says so."""
    held, lease = turn(line, leased(line, 2))
    assert len(held) == 2
    assert lease.messages == []
    assert lease.worker_status == "ready"


@pytest.mark.parametrize("attempts", [1, 5])
def test_what_ran_out_and_is_finished_is_not_leased(line: Line, attempts: int) -> None:
    """A late finish wins over the redelivery by the same statement, and over burying."""
    line.admin.update_queue(line.queue, max_attempts=attempts)
    messages = leased(line, 3)
    line.expire_all()
    held, lease = turn(line, messages[:2])
    assert held == {m.id for m in messages[:2]}
    again = [m.id for m in lease.messages]
    assert again == ([] if attempts == 1 else [messages[2].id])
    assert (lease.bury_upto is not None) == (attempts == 1)
    assert line.consumer.dequeue() is None
    statuses = [row.status for row in line.archived().values()]
    assert statuses == ["completed", "completed"] + ["dead"] * (attempts == 1)


def test_what_was_put_back_in_line_and_is_finished_is_not_leased(line: Line) -> None:
    """An expired message that was passed over keeps its fence while it waits."""
    late = leased(line, 2)
    urgent = line.producer.enqueue("9", priority=9)
    line.expire_all()
    assert [m.id for m in line.other.dequeue_batch(1)] == [urgent.id]
    assert {row.state for row in line.waiting().values()} == {0, 2}
    held, lease = turn(line, late[:1])
    assert held == {late[0].id}
    assert [m.id for m in lease.messages] == [late[1].id]


def test_a_lost_lease_is_not_counted(line: Line) -> None:
    """Whoever leased it since keeps it."""
    messages = leased(line, 2)
    line.expire_all()
    theirs = line.other.dequeue_batch(1)
    held, lease = turn(line, messages, 1)
    assert held == {messages[1].id}
    assert lease.messages == []
    assert turn(line, messages)[0] == set()
    assert line.row(theirs[0]).consumer_worker_id == line.other.worker_id


def test_the_public_form_does_both(line: Line) -> None:
    """In the order given, by message or id, and what was leased can be acknowledged by id."""
    first = leased(line, 3)
    line.producer.batch_enqueue(["3", "4", "5"])
    given = [first[2], first[0].id, first[0], 10**9]
    archived, messages = line.consumer.archive_and_dequeue(given, 2)
    assert archived == [True, True, False, False]
    assert [m.payload for m in messages] == [3, 4]
    assert line.archived().keys() == {first[0].id, first[2].id}
    archived, (last,) = line.consumer.archive_and_dequeue([m.id for m in messages], 2, vt=60)
    assert archived == [True, True]
    assert last.dequeued_at is not None
    assert last.vt - last.dequeued_at >= dt.timedelta(seconds=59)


def test_the_public_form_leases_whatever_was_held(line: Line) -> None:
    """Nothing to archive, or a lost lease, does not keep the next from coming."""
    line.producer.batch_enqueue(range(3))
    archived, (one,) = line.consumer.archive_and_dequeue([])
    assert (archived, one.payload) == ([], 0)
    line.expire_all()
    (again,) = line.other.dequeue_batch(1)
    assert again.id == one.id
    archived, (two,) = line.consumer.archive_and_dequeue([one])
    assert (archived, two.payload) == ([False], 1)
    with pytest.raises(ValueError, match="at least 1"):
        line.consumer.archive_and_dequeue([two], 0)
    assert line.archived() == {}


def test_two_leases_of_one_message(line: Line) -> None:
    """Only the later is held, and nothing of the earlier is kept."""
    (first,) = leased(line, 1)
    line.expire_all()
    (second,) = line.consumer.dequeue_batch(1)
    assert (second.id, second.read_ct) == (first.id, 2)
    assert line.consumer.archive_and_dequeue([first, second])[0] == [False, True]
    assert line.archived()[first.id].read_ct == 2


def test_many_are_finished_in_one_statement(line: Line) -> None:
    """However many there are, the time is in proportion."""
    messages = []
    for _ in range(30):
        messages += leased(line, 100)
    archived, _ = line.consumer.archive_and_dequeue(messages)
    assert archived == [True] * 3000
