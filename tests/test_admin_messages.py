"""What an operator does with single messages: states, and the ways in and out of the archive."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from pgqrs import (
    Admin,
    Archive,
    Config,
    Consumer,
    InvalidStateError,
    LeaseLostError,
    MessageNotFoundError,
    MessageState,
    Producer,
    QueueMessage,
    QueueNotFoundError,
    UnavailableError,
)
from pgqrs.aio import AsyncAdmin

pytestmark = pytest.mark.matrix


@pytest.fixture
def producer(admin: Admin, config: Config) -> Iterator[Producer]:
    admin.create_queue("q", max_attempts=2)
    with Producer(config, "q") as producer:
        yield producer


@pytest.fixture
def consumer(producer: Producer, config: Config) -> Iterator[Consumer]:
    with Consumer(config, producer.queue) as consumer:
        yield consumer
        consumer.close(release=False)


def leased(consumer: Consumer) -> QueueMessage:
    message = consumer.dequeue()
    assert message is not None
    return message


def expire(engine: Engine, message_id: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s' WHERE id = :id"),
            {"id": message_id},
        )


def killed(producer: Producer, consumer: Consumer) -> QueueMessage:
    message = producer.enqueue({"a": 1}, max_attempts=1)
    assert consumer.fail(leased(consumer), "the printer is on fire")
    return message


def test_each_state_has_its_name(
    admin: Admin, producer: Producer, consumer: Consumer, engine: Engine
) -> None:
    """A message says whether it waits, was tried, is leased, or how it was finished."""
    made = producer.enqueue({"a": 1}, priority=3)

    def state() -> MessageState:
        return admin.get_message(made.id).state

    assert state() is MessageState.CREATED
    consumer.release(leased(consumer))
    assert state() is MessageState.CREATED
    consumer.fail(leased(consumer), "why", delay=0)
    found = admin.get_message(made.id)
    assert (found.state, found.error, found.attempts) == (MessageState.RETRY, "why", 1)
    message = leased(consumer)
    assert state() is MessageState.ACTIVE
    expire(engine, made.id)
    assert state() is MessageState.RETRY
    consumer.archive(message, output=[1])
    found = admin.get_message(made.id)
    assert (found.state, found.status) == (MessageState.COMPLETED, "completed")
    assert (found.queue_name, found.priority, found.read_ct) == ("q", 3, 3)
    assert (found.payload, found.output, found.headers) == ({"a": 1}, [1], None)
    assert found.archived_at is not None


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("failed", MessageState.FAILED),
        ("dead", MessageState.FAILED),
        ("cancelled", MessageState.CANCELLED),
        ("expired", MessageState.EXPIRED),
        ("skipped", MessageState.COMPLETED),
    ],
)
def test_a_status_of_the_archive_is_a_state(
    status: str, state: MessageState, admin: Admin, producer: Producer
) -> None:
    """What the archive calls failed or dead has failed; a status of one's own is completed."""
    made = producer.enqueue(1)
    admin.archive_messages(made.id, status)
    found = admin.get_message(made.id)
    assert (found.state, found.status) == (state, status)


def test_a_message_that_is_nowhere(admin: Admin, producer: Producer) -> None:
    """Looking up, and each act on one id, says that there is no such message; in a list: False."""
    assert producer.queue == "q"
    with pytest.raises(MessageNotFoundError):
        admin.get_message(77)
    for act in single_acts(admin):
        with pytest.raises(MessageNotFoundError):
            act(77)
        assert act([77, 78]) in ([False, False], [None, None])
        assert act([]) == []


def single_acts(admin: Admin) -> list[Callable[..., Any]]:
    return [
        admin.cancel_messages,
        admin.resume_messages,
        admin.retry_messages,
        lambda ids: admin.fail_messages(ids, "why"),
        admin.archive_messages,
        admin.delete_messages,
        admin.release_messages,
        admin.replay,
    ]


def test_a_list_of_messages(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """The messages of a queue come page by page, waiting ones first."""
    first, second, third = producer.batch_enqueue([1, 2, 3])
    leased(consumer)
    found = admin.messages("q")
    assert [one.id for one in found] == [second.id, third.id, first.id]
    assert [one.state for one in found] == ["created", "created", "active"]
    assert [one.id for one in admin.messages("q", limit=1, offset=1)] == [third.id]
    with pytest.raises(QueueNotFoundError):
        admin.messages("other")


def test_cancelling_is_at_once_and_fences_the_holder_off(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """Waiting, delayed and leased messages are cancelled; whoever holds one has lost the lease."""
    made = producer.enqueue(1)
    held = leased(consumer)
    waiting, delayed = producer.enqueue(2), producer.enqueue_delayed(3, 60)
    assert admin.cancel_messages([delayed.id, 999, made.id, waiting.id]) == [
        True,
        False,
        True,
        True,
    ]
    assert {admin.get_message(m.id).state for m in (made, waiting, delayed)} == {"cancelled"}
    for late in (
        lambda: consumer.archive(held),
        lambda: consumer.fail(held, "why"),
        lambda: consumer.extend_visibility(held, 60),
    ):
        with pytest.raises(LeaseLostError):
            late()
    assert consumer.dequeue() is None
    with pytest.raises(InvalidStateError, match="is cancelled") as caught:
        admin.cancel_messages(made.id)
    assert (caught.value.current, caught.value.wanted) == ("cancelled", "cancelled")
    assert admin.cancel_messages([made.id]) == [False]


def test_a_completed_message_cannot_be_cancelled(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """What is finished stays as it is."""
    producer.enqueue(1)
    done = consumer.archive(leased(consumer))
    with pytest.raises(InvalidStateError, match="completed"):
        admin.cancel_messages(done.id)
    assert Archive(admin).get(done.id).status == "completed"


def test_cancelled_and_resumed_is_created_again(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """Same id, same read count, all attempts anew; the holder of before does not get it back."""
    made = producer.enqueue({"a": 1}, priority=4)
    held = leased(consumer)
    admin.cancel_messages(made.id)
    admin.resume_messages(made.id)
    found = admin.get_message(made.id)
    assert (found.state, found.read_ct, found.attempts) == (MessageState.CREATED, 1, 0)
    assert (found.payload, found.priority) == ({"a": 1}, 4)
    with pytest.raises(LeaseLostError):
        consumer.archive(held)
    again = leased(consumer)
    assert (again.id, again.read_ct, again.attempts) == (made.id, 2, 1)
    assert again.enqueued_at == made.enqueued_at
    with pytest.raises(LeaseLostError):
        consumer.archive(held)
    assert consumer.archive(again).status == "completed"
    with pytest.raises(MessageNotFoundError):
        Archive(admin).get(-1)
    assert [one.id for one in Archive(admin).list()] == [made.id]
    with pytest.raises(InvalidStateError, match="completed"):
        admin.resume_messages(made.id)


def test_retrying_gives_one_attempt_more(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """A dead message waits again under its own id, may fail once more, and is dead again."""
    made = killed(producer, consumer)
    for count in (1, 2):
        admin.retry_messages(made.id)
        found = admin.get_message(made.id)
        assert (found.state, found.read_ct) == (MessageState.RETRY, count)
        assert (found.max_attempts, found.error) == (count + 1, "the printer is on fire")
        message = leased(consumer)
        assert (message.id, message.read_ct) == (made.id, count + 1)
        assert consumer.fail(message, "the printer is on fire")
    assert admin.retry_messages([made.id, made.id + 1]) == [True, False]
    consumer.archive(leased(consumer))


def test_retrying_counts_from_the_queues_limit_or_from_what_was_tried(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """Without one of its own the queue's limit holds; a lowered one leaves an attempt still."""
    made = producer.enqueue(1)
    admin.fail_messages(made.id, "not today")
    admin.retry_messages(made.id)
    assert admin.get_message(made.id).max_attempts == 3
    for _ in range(2):
        consumer.fail(leased(consumer), "why", delay=0)
    admin.fail_messages(made.id, {"code": 7})
    with admin.pool.begin() as connection:
        connection.execute(text("UPDATE pgqrs.pgqrs_archive SET max_attempts = NULL"))
    admin.update_queue("q", max_attempts=1)
    assert admin.get_message(made.id).error == {"code": 7}
    admin.retry_messages(made.id)
    assert admin.get_message(made.id).max_attempts == 3
    assert leased(consumer).attempts == 3


def test_only_what_failed_is_retried_and_only_what_was_cancelled_resumed(
    admin: Admin, producer: Producer
) -> None:
    """The other one is refused, and says what the message is."""
    one, two = producer.batch_enqueue([1, 2])
    admin.cancel_messages(one.id)
    admin.fail_messages(two.id, ValueError("no"))
    assert admin.get_message(two.id).error["type"] == "ValueError"
    with pytest.raises(InvalidStateError, match="is cancelled"):
        admin.retry_messages(one.id)
    with pytest.raises(InvalidStateError, match="is failed"):
        admin.resume_messages(two.id)
    assert admin.retry_messages([one.id, two.id]) == [False, True]
    assert admin.resume_messages([one.id, two.id]) == [True, False]


def test_what_was_archived_without_its_payload_stays(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """Under archive mode meta nothing comes back, and the error says why."""
    admin.update_queue("q", archive_mode="meta")
    dead, other = killed(producer, consumer), producer.enqueue(2)
    admin.cancel_messages(other.id)
    for act, message in (
        (admin.retry_messages, dead),
        (admin.resume_messages, other),
        (admin.replay, dead),
    ):
        with pytest.raises(InvalidStateError, match="archived without its payload"):
            act(message.id)
    assert admin.replay([dead.id]) == [None]
    assert admin.retry_messages([dead.id]) == [False]
    assert admin.get_message(dead.id).payload is None


@pytest.mark.parametrize("name", ["archive_messages", "delete_messages", "release_messages"])
def test_a_leased_message_is_left_alone_unless_forced(
    name: str, admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """Without force it is the holder's; with force the holder has lost it."""
    made = producer.enqueue(1)
    held = leased(consumer)
    act = getattr(admin, name)
    with pytest.raises(InvalidStateError, match="is active"):
        act(made.id)
    assert act([made.id]) == [False]
    act(made.id, force=True)
    with pytest.raises(LeaseLostError):
        consumer.archive(held)


def test_releasing_makes_due(
    admin: Admin, producer: Producer, consumer: Consumer, engine: Engine
) -> None:
    """Delayed messages are due now; a lease ended by force costs no attempt, an expired one did."""
    made = producer.enqueue_delayed(1, 600)
    admin.release_messages(made.id)
    assert leased(consumer).id == made.id
    admin.release_messages(made.id, force=True)
    again = leased(consumer)
    assert (again.read_ct, again.attempts) == (2, 1)
    expire(engine, made.id)
    admin.release_messages(made.id)
    assert admin.get_message(made.id).attempts == 1


def test_deleting_leaves_nothing(admin: Admin, producer: Producer) -> None:
    """A waiting message is gone; an archived one stays."""
    one, two = producer.batch_enqueue([1, 2])
    admin.archive_messages(two.id)
    assert admin.delete_messages([one.id, two.id]) == [True, False]
    with pytest.raises(MessageNotFoundError):
        admin.get_message(one.id)
    assert admin.get_message(two.id).status == "completed"
    with pytest.raises(ValueError, match="1 to 63"):
        admin.archive_messages(two.id, "")


def test_replaying_makes_new_messages(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """The new one has the same contents and points at the old one, which stays archived."""
    dead = killed(producer, consumer)
    producer.enqueue("[2]", priority=7)
    done = consumer.archive(leased(consumer))
    new = admin.replay(dead.id)
    assert new.id > done.id
    assert (new.payload, new.read_ct, new.max_attempts) == ({"a": 1}, 0, 1)
    found = admin.get_message(new.id)
    assert found.headers == {"pgqrs": {"replay_of": dead.id}}
    assert (found.state, found.error) == (MessageState.CREATED, None)
    assert admin.get_message(dead.id).status == "dead"
    both = admin.replay([999, done.id, dead.id])
    assert both[0] is None
    assert [one and one.payload for one in both[1:]] == [[2], {"a": 1}]
    with pytest.raises(InvalidStateError, match="is created"):
        admin.replay(new.id)


def test_acts_reach_across_queues(admin: Admin, config: Config, producer: Producer) -> None:
    """Ids of several queues may be given at once; each goes to its own archive, in its own mode."""
    admin.create_queue("bare", archive_mode="meta")
    with Producer(config, "bare") as other:
        two = other.enqueue(2)
    one = producer.enqueue(1)
    assert admin.cancel_messages([one.id, two.id]) == [True, True]
    assert [admin.get_message(m.id).payload for m in (one, two)] == [1, None]
    assert admin.resume_messages([two.id, one.id]) == [False, True]
    assert admin.get_message(one.id).queue_name == "q"


def test_more_than_one_statement_takes(admin: Admin, producer: Producer) -> None:
    """Thousands of ids are done in batches, and answered in the order given."""
    made = [message.id for message in producer.batch_enqueue(range(2100))]
    assert admin.cancel_messages([*reversed(made), 0]) == [True] * 2100 + [False]
    assert admin.resume_messages(made) == [True] * 2100
    assert admin.queue_metrics("q").pending == 2100


def test_what_somebody_is_changing_is_waited_for(
    dsn: str, producer: Producer, consumer: Consumer, engine: Engine
) -> None:
    """A transaction that holds the row decides first; one that never ends is a time limit's."""
    made, other = producer.batch_enqueue([1, 2])
    held = leased(consumer)
    assert held.id == made.id
    hasty = Config.from_dsn(dsn, query_timeout_seconds=0.3)
    with Admin(hasty) as admin, engine.connect() as connection:
        with connection.begin() as transaction:
            consumer.within(connection).archive(held)
            with pytest.raises((TimeoutError, UnavailableError)):
                admin.cancel_messages(made.id)
            transaction.rollback()
        assert admin.cancel_messages([other.id, made.id]) == [True, True]


def test_within_the_callers_transaction(admin: Admin, producer: Producer, engine: Engine) -> None:
    """Bound to a connection, an act is undone with its transaction."""
    made = producer.enqueue(1)
    with engine.connect() as connection:
        within = Admin(connection)
        within.cancel_messages(made.id)
        assert within.get_message(made.id).state is MessageState.CANCELLED
        connection.rollback()
    assert admin.get_message(made.id).state is MessageState.CREATED


def test_under_asyncio(config: Config, producer: Producer) -> None:
    """The twin does the same, awaited."""
    made, other = producer.batch_enqueue([1, 2])

    async def main() -> None:
        async with AsyncAdmin(config) as admin:
            await admin.cancel_messages(made.id)
            await admin.fail_messages([other.id], "why")
            assert (await admin.get_message(made.id)).state is MessageState.CANCELLED
            await admin.resume_messages(made.id)
            assert await admin.retry_messages([other.id, made.id]) == [True, False]
            await admin.release_messages([other.id])
            await admin.archive_messages(other.id)
            assert (await admin.replay(other.id)).payload == 2
            await admin.delete_messages(made.id)
            assert len(await admin.messages("q")) == 1

    asyncio.run(main())


def test_a_message_is_shown_with_what_it_was_given(admin: Admin, producer: Producer) -> None:
    """Its own id, its key and its options, in the queue and in the archive; of most, nothing."""
    mine = uuid.uuid4()
    options: dict[str, Any] = {"expire_in": 90, "retry_backoff": False, "singleton_for": 60}
    sent = producer.enqueue(1, message_id=mine, singleton_key="ada", **options)
    given = {"expire_in": 90.0, "retry_backoff": False, "window": "ada"}
    (waiting,) = admin.messages("q")
    admin.cancel_messages(sent.id)
    for shown in (waiting, admin.get_message(sent.id)):
        assert (shown.message_id, shown.key, shown.options) == (mine, "ada", given)
    plain = admin.get_message(producer.enqueue(1).id)
    assert (plain.message_id, plain.key, plain.options) == (None, None, None)


@pytest.mark.parametrize("bad", ["1", b"1", 1.0, None, True, [1, "2"], [True], {"a": 1}])
def test_ids_are_integers(admin: Admin, bad: Any) -> None:
    """Anything else is a TypeError that shows it, before anything is sent."""
    admin.create_queue("q")
    with Producer(admin, "q") as producer, Consumer(admin, "q") as consumer:
        acts = (admin.cancel_messages, admin.delete_messages, admin.replay, admin.retry_messages)
        for act in (*acts, consumer.archive, consumer.delete):
            with pytest.raises(TypeError, match=re.escape(repr(bad))):
                act(bad)
        with pytest.raises(TypeError, match=re.escape(repr(bad))):
            producer.extend_visibility(bad, 1)
    if bad is not None:
        with pytest.raises(TypeError, match=re.escape(repr(bad))):
            admin.erase_archived("q", bad)
