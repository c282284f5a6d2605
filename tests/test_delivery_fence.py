"""Who may finish, extend or give back a message: only the holder of its present lease."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from line import Line

from pgqrs import Config, Consumer, LeaseLostError, Producer, QueueMessage
from pgqrs.operations import acknowledge
from pgqrs.operations.acknowledge import Fence

pytestmark = pytest.mark.matrix

Act = Callable[[Consumer, Any], Any]
SINGLE: dict[str, Act] = {
    "archive": lambda consumer, held: consumer.archive(held),
    "delete": lambda consumer, held: consumer.delete(held),
    "extend": lambda consumer, held: consumer.extend_visibility(held, 3600),
    "release": lambda consumer, held: consumer.release(held),
}
BATCH: dict[str, Act] = {
    "archive": lambda consumer, many: consumer.archive_batch(many),
    "delete": lambda consumer, many: consumer.delete_batch(many),
    "release": lambda consumer, many: consumer.release(many),
}
single = pytest.mark.parametrize("act", SINGLE.values(), ids=SINGLE)
batch = pytest.mark.parametrize("act", BATCH.values(), ids=BATCH)
by = pytest.mark.parametrize("name", [lambda m: m, lambda m: m.id], ids=["message", "id"])


@pytest.fixture
def line(config: Config) -> Iterator[Line]:
    with closing(Line(config)) as line:
        yield line


def lease(consumer: Consumer) -> QueueMessage:
    message = consumer.dequeue()
    assert message is not None
    return message


def leased_again(line: Line, who: str) -> tuple[QueueMessage, QueueMessage]:
    """Give a stale lease of `line.consumer` and the present one of `who`."""
    line.producer.enqueue({})
    stale = lease(line.consumer)
    line.come_due(stale)
    return stale, lease(getattr(line, who))


@pytest.mark.parametrize("who", ["consumer", "sibling", "other"])
@single
def test_stale_message_is_refused(line: Line, who: str, act: Act) -> None:
    """The message of an earlier lease does nothing, also where the worker row is the same."""
    stale, present = leased_again(line, who)
    before = line.row(present)
    with pytest.raises(LeaseLostError) as lost:
        act(line.consumer, stale)
    assert lost.value.message_id == stale.id
    assert line.row(present) == before
    assert getattr(line, who).archive(present).read_ct == 2


@pytest.mark.parametrize("who", ["sibling", "other"])
@single
def test_stale_id_is_refused(line: Line, who: str, act: Act) -> None:
    """An id means the lease this very object took, not one that its worker row has now."""
    stale, present = leased_again(line, who)
    before = line.row(present)
    with pytest.raises(LeaseLostError):
        act(line.consumer, stale.id)
    assert line.row(present) == before
    assert getattr(line, who).archive(present.id).read_ct == 2


@by
@pytest.mark.parametrize("who", ["sibling", "other"])
@batch
def test_stale_in_a_batch_is_false(line: Line, who: str, act: Act, name: Any) -> None:
    """A batch says False for a lease that was lost, and does the rest."""
    stale, present = leased_again(line, who)
    before = line.row(present)
    line.producer.enqueue({})
    held = lease(line.consumer)
    assert act(line.consumer, [name(stale), name(held)]) == [False, True]
    assert line.row(present) == before


def test_stale_and_present_in_one_batch(line: Line) -> None:
    """Two leases of one message in one batch: only the present one counts."""
    for act in BATCH.values():
        stale, present = leased_again(line, "consumer")
        assert act(line.consumer, [stale, present]) == [False, True]
        line.execute("DELETE FROM pgqrs.pgqrs_messages")
    stale, present = leased_again(line, "consumer")
    assert line.consumer.archive_batch([present, stale]) == [True, False]


@single
def test_a_refused_stale_message_keeps_the_present_lease(line: Line, act: Act) -> None:
    """After acting on an old lease in vain, the present one still answers to its id."""
    stale, present = leased_again(line, "consumer")
    with pytest.raises(LeaseLostError):
        act(line.consumer, stale)
    assert line.consumer.archive(present.id).read_ct == 2


@by
@pytest.mark.parametrize("passed_over", [False, True])
@single
def test_own_expired_lease(line: Line, act: Act, name: Any, passed_over: bool) -> None:  # noqa: FBT001
    """A late acknowledgement counts while nobody leased the message again; extending does not."""
    line.producer.enqueue({})
    late = lease(line.consumer)
    line.come_due(late)
    if passed_over:
        line.producer.enqueue({}, priority=1)
        assert lease(line.other).id != late.id
    if act is SINGLE["extend"]:
        with pytest.raises(LeaseLostError):
            act(line.consumer, name(late))
        act = SINGLE["archive"]
    act(line.consumer, name(late))
    with pytest.raises(LeaseLostError):
        act(line.consumer, name(late))


@by
@single
def test_once(line: Line, act: Act, name: Any) -> None:
    """What is finished or given back cannot be acted on under the same lease again."""
    for finish in (SINGLE["archive"], SINGLE["delete"], SINGLE["release"]):
        line.producer.enqueue({})
        held = lease(line.consumer)
        finish(line.consumer, name(held))
        with pytest.raises(LeaseLostError):
            act(line.consumer, name(held))
        line.execute("DELETE FROM pgqrs.pgqrs_messages")


@single
def test_ids_are_the_objects_own(line: Line, act: Act) -> None:
    """An id that another object leased is refused, even with the same worker row."""
    line.producer.enqueue({})
    held = lease(line.consumer)
    for stranger in (line.sibling, line.other):
        with pytest.raises(LeaseLostError):
            act(stranger, held.id)
    with pytest.raises(LeaseLostError):
        act(line.other, held)
    assert line.row(held).vt == held.vt
    act(line.consumer, held.id)


def test_fence_in_sql(line: Line) -> None:
    """The statements themselves carry id, worker and read count; each alone is not enough."""
    line.producer.enqueue({})
    held = lease(line.consumer)
    worker, fence = line.consumer.worker_id, Fence(held.id, held.read_ct)
    assert worker is not None
    wrong = [(worker + 1, fence), (worker, Fence(held.id, 2)), (worker, Fence(held.id + 1, 1))]
    with line.admin.pool.connect() as c:
        for me, f in wrong:
            assert acknowledge.archive(c, "pgqrs", me, f, "completed", None) is None
            assert acknowledge.archive_many(c, "pgqrs", me, [f]) == set()
            assert acknowledge.delete(c, "pgqrs", me, f) is False
            assert acknowledge.delete_many(c, "pgqrs", me, [f]) == set()
            assert acknowledge.extend(c, "pgqrs", me, f, dt.timedelta(hours=1)) is None
            assert acknowledge.release(c, "pgqrs", me, [f], dt.timedelta()) == set()
        assert acknowledge.archive_many(c, "pgqrs", worker, [fence]) == {fence}


@batch
def test_batch_results(line: Line, act: Act) -> None:
    """Results stand in input order, with unknown, repeated and foreign ids and messages mixed."""
    line.producer.batch_enqueue([{}] * 5)
    first, second, third = line.consumer.dequeue_batch(3)
    siblings, others = lease(line.sibling), lease(line.other)
    many = [third, 10**12, siblings.id, first.id, others, third, first, second.id, -1]
    wanted = [True, False, False, True, False, False, False, True, False]
    assert act(line.consumer, many) == wanted
    assert act(line.consumer, many) == [False] * 9
    assert act(line.consumer, iter(())) == []
    held = {row.id for row in line.waiting().values() if row.state == 2}
    assert held == {siblings.id, others.id}


def test_extend(line: Line) -> None:
    """Extending pushes an unexpired lease out to `by` from now, and never shortens it."""
    line.producer.enqueue({})
    held = lease(line.consumer)
    longer = line.consumer.extend_visibility(held, dt.timedelta(hours=1))
    assert dt.timedelta(minutes=59) < longer.vt - held.vt < dt.timedelta(minutes=60)
    assert (longer.read_ct, longer.consumer_worker_id) == (1, line.consumer.worker_id)
    same = line.consumer.extend_visibility(held.id, 1)
    assert same.vt == longer.vt == line.row(held).vt
    assert line.consumer.extend_visibility(held, 0).vt == longer.vt
    assert line.other.dequeue() is None
    line.consumer.archive(held)


def test_extending_for_another(line: Line) -> None:
    """Who extends another object's lease does not come to own it: closing leaves it alone."""
    line.producer.enqueue({})
    held = lease(line.consumer)
    with closing(Consumer(line.config, "work")) as sibling:
        sibling.extend_visibility(held, 3600)
        with pytest.raises(LeaseLostError):
            sibling.archive(held.id)
    assert line.other.dequeue() is None
    assert line.consumer.archive(held.id).read_ct == 1


@pytest.mark.parametrize("stage", ["ready", "delayed", "expired", "archived", "deleted"])
def test_extend_needs_a_lease(line: Line, stage: str) -> None:
    """There is nothing to extend before a lease, after it ran out, or once it is finished."""
    line.producer.enqueue({})
    held = lease(line.consumer)
    if stage in ("ready", "delayed"):
        line.consumer.release(held, delay=60 if stage == "delayed" else 0)
    elif stage == "expired":
        line.come_due(held)
    else:
        line.consumer.archive(held) if stage == "archived" else line.consumer.delete(held)
    before = line.waiting()
    with pytest.raises(LeaseLostError):
        line.consumer.extend_visibility(held, 60)
    assert line.waiting() == before


def test_producer_postpones_what_waits(line: Line) -> None:
    """A producer may postpone a ready or delayed message of its own; it never comes sooner."""
    ready = line.producer.enqueue({})
    delayed = line.producer.enqueue({}, delay=60)
    later = line.producer.extend_visibility(ready, 3600)
    assert later.vt - ready.vt > dt.timedelta(minutes=59)
    assert line.producer.extend_visibility(delayed.id, 1).vt == delayed.vt
    assert line.producer.extend_visibility(delayed, 3600).vt > delayed.vt
    assert line.consumer.dequeue() is None
    line.come_due(delayed, ready)
    assert [message.read_ct for message in line.consumer.dequeue_batch(2)] == [1, 1]


def test_producer_extends_a_lease(line: Line) -> None:
    """A producer may extend the present lease of its message; the holder stays and may finish."""
    message = line.producer.enqueue({})
    held = lease(line.consumer)
    longer = line.producer.extend_visibility(message, 3600)
    assert longer.vt - held.vt > dt.timedelta(minutes=59)
    assert (longer.read_ct, longer.consumer_worker_id) == (1, line.consumer.worker_id)
    assert line.producer.extend_visibility(message, 1).vt == longer.vt
    line.consumer.archive(held)
    with pytest.raises(LeaseLostError):
        line.producer.extend_visibility(message, 3600)


def test_producer_leaves_others_alone(line: Line) -> None:
    """A producer's extension is refused on an expired lease and on what others produced."""
    message = line.producer.enqueue({})
    with Producer(line.config, "work", "elsewhere", 1) as stranger:
        with pytest.raises(LeaseLostError):
            stranger.extend_visibility(message, 60)
        held = lease(line.consumer)
        with pytest.raises(LeaseLostError):
            stranger.extend_visibility(message.id, 60)
    line.come_due(held)
    with pytest.raises(LeaseLostError):
        line.producer.extend_visibility(message, 60)
    assert lease(line.other).read_ct == 2


def test_closing_gives_back(line: Line) -> None:
    """Closing gives back what is held at no attempt's cost; leaving by an exception does not."""
    first, second = line.producer.batch_enqueue([{}, {}])
    with Consumer(line.config, "work", "here", 2) as consumer:
        assert lease(consumer).id == first.id
    assert (line.row(first).read_ct, line.row(first).returned_ct) == (1, 1)
    with (
        suppress(ZeroDivisionError),
        Consumer(line.config, "work", "here", 3) as consumer,
    ):
        assert len(consumer.dequeue_batch(2)) / 0
    assert line.consumer.dequeue() is None
    line.come_due(second, first)
    assert [message.attempts for message in line.consumer.dequeue_batch(2)] == [2, 2]
