"""What each policy of a queue lets wait, and lets be leased, of the messages of one key."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from line import Line
from sqlalchemy import URL, Engine, text
from waiting import BLOCKED, until, wait_for

from pgqrs import (
    Admin,
    Config,
    Consumer,
    DuplicateMessageError,
    NewMessage,
    Producer,
    QueueMessage,
    QueuePolicy,
)
from pgqrs.policy import QueuePolicy as Policy

pytestmark = pytest.mark.matrix

QUIET = {
    "heartbeat_interval_seconds": 3600,
    "stale_after_seconds": 7200,
    "enable_listen_notify": False,
}
TURNS = [Policy.SINGLETON, Policy.STATELY, Policy.FIFO]


@pytest.fixture
def quiet(dsn: str) -> Config:
    return Config.from_dsn(dsn, **QUIET)


@pytest.fixture
def line(quiet: Config, request: pytest.FixtureRequest) -> Iterator[Line]:
    line = Line(quiet, policy=getattr(request, "param", None))
    yield line
    line.close()


def under(*policies: str) -> Any:
    return pytest.mark.parametrize("line", policies, indirect=True)


def keyed(line: Line, key: str | None, payload: Any = 1, **options: Any) -> QueueMessage | None:
    fifo = line.admin.get_queue("work").policy is Policy.FIFO
    name = "ordering_key" if fifo else "singleton_key"
    message = NewMessage(payload, **{name: key}, **options)
    return line.producer.enqueue(message, on_conflict="skip")


def taken(line: Line, key: str | None) -> bool:
    """Whether no message of this key gets in."""
    return keyed(line, key) is None


def lease(line: Line) -> QueueMessage:
    message = line.consumer.dequeue()
    assert message is not None
    return message


# Waiting


@under("short", "stately", "exclusive")
def test_one_waits_for_a_key(line: Line) -> None:
    """A second one is kept out, by name, also in a batch; other keys and no key are apart."""
    for key in (None, "a", "b"):
        assert not taken(line, key)
        assert taken(line, key)
    with pytest.raises(DuplicateMessageError) as caught:
        line.producer.enqueue(1, singleton_key="a")
    assert (caught.value.queue, caught.value.key, caught.value.index) == ("work", "a", None)
    with pytest.raises(DuplicateMessageError) as caught:
        line.producer.batch_enqueue([NewMessage(1, singleton_key=key) for key in "cdc"])
    assert caught.value.index == 2
    assert not taken(line, "c")
    with pytest.raises(DuplicateMessageError):
        line.producer.enqueue("1", delay=60)


@under("singleton", "fifo", "standard")
def test_many_wait_for_a_key(line: Line) -> None:
    """Where the policy is about leases, or there is none."""
    messages = [line.producer.enqueue(n) for n in range(3)]
    assert len(line.producer.batch_enqueue([4, 5])) == 2
    assert [message.key for message in messages] == {
        Policy.SINGLETON: [""] * 3,
        Policy.FIFO: [None] * 3,
        Policy.STANDARD: [None] * 3,
    }[line.admin.get_queue("work").policy]


@under("short", "stately")
def test_a_leased_message_lets_the_next_wait(line: Line) -> None:
    """Also when it comes back: it waits again, which is another state."""
    keyed(line, "a", 1)
    first = lease(line)
    assert not taken(line, "a")
    assert taken(line, "a")
    line.consumer.fail(first, "why", delay=0)
    assert taken(line, "a")


@under("exclusive")
def test_exclusive_until_it_is_finished(line: Line) -> None:
    """Leased, failed, waiting again: nobody else gets in; archived: the next does."""
    keyed(line, "a")
    for _ in range(2):
        message = lease(line)
        assert taken(line, "a")
        line.consumer.fail(message, "why", delay=0)
        assert taken(line, "a")
    line.consumer.archive(lease(line))
    assert not taken(line, "a")


@under("short")
def test_who_waits_behind_an_uncommitted_message(line: Line, engine: Engine) -> None:
    """Is kept out if that commits, and gets in if it rolls back."""
    for end, gets_in in (("rollback", True), ("commit", False)):
        key = f"key of {end}"
        with engine.connect() as winner, ThreadPoolExecutor(1) as pool:
            line.producer.within(winner).enqueue(1, singleton_key=key)
            waiting = pool.submit(keyed, line, key)
            wait_for(line.admin.pool, BLOCKED)
            getattr(winner, end)()
            assert (waiting.result() is not None) is gets_in


# Leasing


@under(*TURNS)
def test_one_is_leased_for_a_key(line: Line) -> None:
    """The next is when that is finished; other keys are not held back, in a batch neither."""
    for key in "aab":
        keyed(line, key)
    found = line.consumer.dequeue_batch(10)
    assert [message.key for message in found] == ["a", "b"]
    keyed(line, "a")  # of stately, the first to wait
    assert line.other.dequeue_batch(10) == []
    line.consumer.archive(found[1])
    assert line.other.dequeue_batch(10) == []
    held, next_ = line.consumer.archive_and_dequeue([found[0]], 10)
    assert held == [True]
    assert [message.key for message in next_] == ["a"]


@under(*TURNS)
def test_a_lease_within_a_transaction_holds_up_no_one_else(line: Line, engine: Engine) -> None:
    """Others get nothing until it ends, and do not wait for it; then what it left them."""
    for end in ("rollback", "commit"):
        keyed(line, end)
        keyed(line, end)
        with engine.connect() as first:
            held = line.consumer.within(first).dequeue_batch(10)
            assert {message.key for message in held} == {end}
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(line.other.dequeue_batch, 10).result(5) == []
            keyed(line, "more")
            getattr(first, end)()
        assert len(line.other.dequeue_batch(10)) == (2 if end == "rollback" else 1)
        line.admin.purge_queue("work")


@under("singleton")
def test_a_lease_that_began_before_another_looks_again(
    role: str, line: Line, engine: Engine, url: URL
) -> None:
    """What it saw is no longer so: it must not lease beside what was leased meanwhile."""
    for what in ("SCHEMA", "ALL TABLES IN SCHEMA", "ALL SEQUENCES IN SCHEMA"):
        line.execute(f"GRANT ALL ON {what} pgqrs TO {role}")
    dsn = url.set(username=role).render_as_string(hide_password=False)
    with Consumer(Config.from_dsn(dsn, **QUIET), "work", "there", 2) as late:
        assert late.dequeue() is None
        keyed(line, "a")
        # It has its snapshot when it looks its worker up, and waits there.
        line.execute("ALTER TABLE pgqrs.pgqrs_workers ENABLE ROW LEVEL SECURITY")
        line.execute(
            "CREATE POLICY slow ON pgqrs.pgqrs_workers"
            " USING (pg_advisory_xact_lock_shared(42) IS NOT NULL)"
        )
        with engine.connect() as gate, ThreadPoolExecutor(1) as pool:
            gate.execute(text("SELECT pg_advisory_xact_lock(42)"))
            leasing = pool.submit(late.dequeue_batch, 10)
            wait_for(line.admin.pool, BLOCKED)
            keyed(line, "a", priority=1)
            assert lease(line).priority == 1
            gate.rollback()
            assert leasing.result() == []


@under("fifo", "singleton")
def test_a_crowd_that_is_held_back_hides_nobody(line: Line) -> None:
    """Neither another key behind it nor a message without one; and nothing reads all of it."""
    for key in ("busy", "other"):
        keyed(line, key)
    held = line.consumer.dequeue_batch(2)
    name = "ordering_key" if line.admin.get_queue("work").policy is Policy.FIFO else "singleton_key"
    line.producer.batch_enqueue([1] * 4000, **{name: "busy"})  # type: ignore[call-overload]
    line.producer.enqueue(2, priority=-1, **{name: "new"})
    expected = ["new"]
    if name == "ordering_key":
        line.producer.enqueue(3, priority=-2)
        expected.append("")
    assert [message.key or "" for message in line.other.dequeue_batch(9)] == expected
    line.consumer.archive(held[0])
    assert [message.key for message in line.other.dequeue_batch(9)] == ["busy"]


@under("singleton")
def test_a_batch_has_one_of_each_key(line: Line) -> None:
    """Though those of one key stand together in the line."""
    for key in "abcdefgh":
        line.producer.batch_enqueue([1] * 20, singleton_key=key)
    assert [message.key for message in line.consumer.dequeue_batch(8)] == list("abcdefgh")


@under("fifo")
def test_what_came_due_and_is_held_back_waits_in_the_line(line: Line) -> None:
    """So that an idle consumer does not look for it again and again."""
    keyed(line, "a")
    held = lease(line)
    late = keyed(line, "a", 2, delay=60)
    assert late is not None
    line.come_due(late)
    assert line.other.dequeue() is None
    states = line.execute("SELECT state FROM pgqrs.pgqrs_messages WHERE id = :id", id=late.id)
    assert states == [(0,)]
    line.consumer.archive(held)
    assert lease(line).id == late.id


@under("singleton", "stately", "fifo")
def test_what_came_due_later_than_what_is_held_back_is_leased_at_once(line: Line) -> None:
    """One `dequeue` finds it, however many came due before it."""
    for key in "abc":
        keyed(line, key)
    assert len(line.consumer.dequeue_batch(3)) == 3
    late = [keyed(line, key, delay=60) for key in "abcd"]
    line.come_due(*(message for message in late if message is not None))
    found = line.other.dequeue()
    assert found is not None
    assert found.key == "d"


@pytest.mark.parametrize("policy", TURNS)
def test_with_many_consumers_one_is_leased_for_a_key(policy: Policy, quiet: Config) -> None:
    """Whatever fails, is given back or is finished; under fifo they come in their order."""
    held: set[str] = set()
    seen: dict[str, list[int]] = defaultdict(list)
    lock = threading.Lock()

    def begin(message: QueueMessage) -> None:
        with lock:
            assert message.key not in held
            held.add(str(message.key))
            seen[str(message.key)].append(message.id)

    def work(place: int) -> int:
        count = 0
        with Consumer(quiet, "work", "here", place + 1) as consumer:
            while admin.queue_metrics("work").total_messages:
                for message in consumer.dequeue_batch(1 + place % 3):
                    begin(message)
                    held.discard(str(message.key))
                    count += 1
                    if (message.id + message.read_ct) % 5 == 0:
                        consumer.fail(message, "why", delay=0)
                    elif (message.id + message.read_ct) % 7 == 0:
                        consumer.release(message)
                    else:
                        consumer.archive(message)
        return count

    with Admin(quiet) as admin, Producer(quiet, "work") as producer:
        admin.create_queue("work", policy=policy, max_attempts=100)
        name = "ordering_key" if policy is Policy.FIFO else "singleton_key"
        batch = [NewMessage(n, **{name: str(n % 4)}) for n in range(60)]
        added = producer.batch_enqueue(batch, on_conflict="skip")
        with ThreadPoolExecutor(4) as pool:
            total = sum(pool.map(work, range(4)))
    assert total >= sum(message is not None for message in added)
    if policy is Policy.FIFO:
        assert all(ids == sorted(ids) for ids in seen.values())


@under("fifo")
def test_a_failed_message_holds_back_those_behind_it(line: Line) -> None:
    """Of its key, until it is done or dead; priority and delay do not let anybody past."""
    first = keyed(line, "a", 1)
    keyed(line, "a", 2, priority=9)
    keyed(line, "b", 3)
    keyed(line, None, 4)
    assert [message.payload for message in line.drain()] == [1, 3, 4]
    assert first is not None
    (leased,) = [info for info in line.admin.messages("work") if info.id == first.id]
    assert leased.key == "a"
    line.consumer.fail(first.id, "why", delay=60)
    assert line.drain() == []
    line.come_due(first)
    assert lease(line).id == first.id
    line.consumer.archive(first.id)
    assert lease(line).payload == 2


@under("fifo")
def test_a_delayed_message_holds_back_those_behind_it(line: Line) -> None:
    """It was enqueued before them."""
    first = keyed(line, "a", 1, delay=60)
    keyed(line, "a", 2)
    assert first is not None
    assert line.drain() == []
    line.come_due(first)
    assert [message.payload for message in line.drain()] == [1]


@under("fifo")
def test_ids_of_a_key_are_in_the_order_of_commits(line: Line, engine: Engine) -> None:
    """Who enqueues second waits for the first to commit: nobody gets in before a lower id."""
    with engine.connect() as first, ThreadPoolExecutor(1) as pool:
        one = line.producer.within(first).enqueue(1, ordering_key="a")
        waiting = pool.submit(line.producer.enqueue, 2, ordering_key="a")
        wait_for(line.admin.pool, BLOCKED)
        assert line.consumer.dequeue() is None
        first.commit()
        assert waiting.result().id > one.id


@under("singleton")
def test_an_expired_lease_holds_nobody_back(line: Line) -> None:
    """One is leased then, the better of the two."""
    keyed(line, "a", 1)
    held = lease(line)
    keyed(line, "a", 2, priority=1)
    assert line.consumer.dequeue() is None
    line.come_due(held)
    assert lease(line).payload == 2
    assert line.consumer.dequeue() is None


# Coming back


@under("short", "exclusive")
def test_what_is_kept_out_stays_in_the_archive(line: Line) -> None:
    """Resumed, or replayed: by name, and False or None in a batch; when there is room it comes."""
    cancelled = keyed(line, "a", 1)
    assert cancelled is not None
    line.admin.cancel_messages(cancelled.id)
    standing = keyed(line, "a", 2)
    assert standing is not None
    with pytest.raises(DuplicateMessageError):
        line.admin.resume_messages(cancelled.id)
    with pytest.raises(DuplicateMessageError):
        line.admin.replay(cancelled.id)
    assert line.admin.resume_messages([cancelled.id]) == [False]
    line.admin.cancel_messages(standing.id)
    assert line.admin.resume_messages([cancelled.id, standing.id]) == [True, False]
    line.admin.cancel_messages(cancelled.id)
    line.admin.resume_messages(standing.id)
    assert line.admin.replay([cancelled.id]) == [None]
    line.admin.delete_messages(standing.id)
    line.admin.resume_messages(cancelled.id)
    assert taken(line, "a")
    assert lease(line).payload == 1


@under("exclusive", "fifo", "stately")
def test_a_dead_letter_goes_back_under_its_key(line: Line) -> None:
    """With its options, if no other stands there."""
    line.admin.create_queue("letters")
    line.admin.update_queue("work", dead_letter="letters", max_attempts=1)
    keyed(line, "a", 1, retain_for=60)
    line.consumer.fail(lease(line), "why")
    standing = keyed(line, "a", 2)
    assert standing is not None
    exclusive = line.admin.get_queue("work").policy is Policy.EXCLUSIVE
    assert line.admin.replay_dead_letters("letters") == (0 if exclusive else 1)
    line.admin.delete_messages(standing.id)
    assert line.admin.replay_dead_letters("letters") == (1 if exclusive else 0)
    back = lease(line)
    assert (back.payload, back.key) == (1, "a")
    assert line.admin.get_message(back.id).options == {"retain_for": 60}


@under("exclusive")
def test_of_dead_letters_with_one_key_one_goes_back(line: Line) -> None:
    """And those that cannot yet are in nobody's way."""
    line.admin.create_queue("letters")
    line.admin.update_queue("work", dead_letter="letters", max_attempts=1)
    for key in "bbc":
        keyed(line, key)
        line.consumer.fail(lease(line), "why")
    assert line.admin.replay_dead_letters("letters", limit=2) == 1
    assert line.admin.replay_dead_letters("letters", limit=1) == 1
    assert sorted(str(message.key) for message in line.admin.messages("work")) == ["b", "c"]
    assert line.admin.replay_dead_letters("letters") == 0
    line.consumer.archive_batch(line.consumer.dequeue_batch(2))
    assert line.admin.replay_dead_letters("letters") == 1


# The queue


def test_a_policy_is_given_once(line: Line) -> None:
    """With the queue; and no queue with one is a dead letter queue, which must take all."""
    made = line.admin.create_queue("short", policy="short")
    assert made.policy is QueuePolicy.SHORT
    assert line.admin.get_queue("work").policy is QueuePolicy.STANDARD
    with pytest.raises(ValueError, match="stays"):
        line.admin.update_queue("work", policy="short")
    with pytest.raises(ValueError, match="standard policy"):
        line.admin.update_queue("work", dead_letter="short")
    with pytest.raises(ValueError, match="standard policy"):
        line.admin.create_queue("more", dead_letter="short")
    with pytest.raises(ValueError, match="QueuePolicy"):
        line.admin.create_queue("more", policy="long")
    line.admin.delete_queue("short")


@under("fifo")
def test_a_run_keeps_the_order_of_a_key(line: Line) -> None:
    """With many at once; and a second run beside it."""
    order: dict[str, list[int]] = defaultdict(list)
    line.producer.batch_enqueue([NewMessage(n, ordering_key=str(n % 3)) for n in range(45)])

    def handle(message: QueueMessage) -> None:
        order[str(message.key)].append(message.payload)
        time.sleep(0.001)

    def work(consumer: Consumer) -> None:
        consumer.run(handle, concurrency=4)

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(work, consumer) for consumer in (line.consumer, line.other)]
        until(lambda: not line.admin.queue_metrics("work").total_messages)
        line.consumer.stop()
        line.other.stop()
        for run in runs:
            run.result()
    assert {key: sorted(some) for key, some in order.items()} == dict(order)
    assert sum(map(len, order.values())) == 45
