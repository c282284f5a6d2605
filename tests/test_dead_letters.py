"""Dead letter queues: whatever way a message dies, a copy goes there in the same statement."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text

from pgqrs import (
    Admin,
    Archive,
    Config,
    Consumer,
    Dead,
    MessageInfo,
    Producer,
    QueueInUseError,
    QueueMessage,
    QueueNotFoundError,
    Queues,
)
from pgqrs.aio import AsyncAdmin

pytestmark = pytest.mark.matrix

LAST_LEASE = "the lease of the last attempt ran out"


@pytest.fixture
def producer(admin: Admin, config: Config) -> Iterator[Producer]:
    admin.create_queue("letters")
    admin.create_queue("work", max_attempts=1, dead_letter="letters")
    with Producer(config, "work") as producer:
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


def expire(admin: Admin) -> None:
    with admin.pool.begin() as connection:
        connection.execute(text("UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s'"))


def by_its_last_attempt(_: Admin, consumer: Consumer, config: Config) -> object:
    del config
    return consumer.fail(leased(consumer), "the printer is on fire")


def by_its_last_lease(admin: Admin, consumer: Consumer, config: Config) -> object:
    del config
    leased(consumer)
    expire(admin)
    return consumer.dequeue()


def by_maintenance(admin: Admin, consumer: Consumer, config: Config) -> object:
    del config
    leased(consumer)
    expire(admin)
    return admin.maintain()


def by_reclaiming(admin: Admin, consumer: Consumer, config: Config) -> object:
    leased(consumer)
    admin.reclaim_messages(older_than=0)
    with Consumer(config, "work", "elsewhere", 9001) as other:
        return other.dequeue()


def by_its_status(_: Admin, consumer: Consumer, config: Config) -> object:
    del config
    return consumer.archive(leased(consumer), "dead")


def by_its_handler(_: Admin, consumer: Consumer, config: Config) -> object:
    del config
    return work(consumer, lambda _: Dead("not for us"))


def by_an_exception(_: Admin, consumer: Consumer, config: Config) -> object:
    del config

    def handler(_: QueueMessage) -> None:
        raise LookupError("nobody")

    return work(consumer, handler)


def work(consumer: Consumer, handler: Callable[[QueueMessage], object]) -> object:
    """Run until what waits now is settled."""
    called = threading.Event()

    def once(message: QueueMessage) -> object:
        called.set()
        return handler(message)

    def stop() -> None:
        assert called.wait(30)
        consumer.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    report = consumer.run(once)
    stopping.join()
    return report


DEATHS = {
    by_its_last_attempt: "the printer is on fire",
    by_its_last_lease: LAST_LEASE,
    by_maintenance: LAST_LEASE,
    by_reclaiming: LAST_LEASE,
    by_its_status: None,
    by_its_handler: "not for us",
}


@pytest.mark.parametrize("mode", ["full", "meta", "none"])
@pytest.mark.parametrize("die", [*DEATHS, by_an_exception], ids=lambda die: die.__name__)
def test_whatever_dies_leaves_a_copy(
    die: Callable[..., object],
    mode: str,
    admin: Admin,
    producer: Producer,
    consumer: Consumer,
    config: Config,
) -> None:
    """The copy has the contents and the error, is new and due, and says where it came from."""
    admin.update_queue("work", archive_mode=mode)
    made = producer.enqueue({"a": 1}, priority=5, max_attempts=1)
    die(admin, consumer, config)
    assert Archive(admin).get(made.id).status == "dead"
    (copy,) = admin.messages("letters")
    assert copy.id > made.id
    assert (copy.payload, copy.priority, copy.state) == ({"a": 1}, 5, "created")
    origin = {"queue": "work", "id": made.id, "attempts": 1, "max_attempts": 1}
    assert copy.headers == {"pgqrs": {"dead_letter_of": origin}}
    if die is by_an_exception:
        assert copy.error["type"] == "LookupError"
    else:
        assert copy.error == DEATHS[die]
    assert admin.messages("work") == []


def test_a_busy_worker_finishes_dead_and_completed_ones(
    admin: Admin, producer: Producer, consumer: Consumer
) -> None:
    """While it finishes and leases in one, each dead one leaves a copy, and no other does."""
    made = producer.batch_enqueue(range(200))
    handled: list[int] = []

    def handler(message: QueueMessage) -> object:
        handled.append(message.id)
        if len(handled) == len(made):
            consumer.stop()
        return Dead("odd") if message.payload % 2 else None

    consumer.run(handler)
    letters = admin.messages("letters", limit=1000)
    assert sorted(letter.payload for letter in letters) == list(range(1, 200, 2))
    metrics = admin.queue_metrics("work")
    assert (metrics.total_messages, metrics.archived) == (0, 200)


def test_only_the_dead_leave_a_copy(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """Not what completed, failed, was cancelled, was given back, or may be tried again."""
    producer.batch_enqueue(range(6))
    consumer.archive(leased(consumer))
    consumer.archive(leased(consumer), "failed")
    consumer.archive_batch([leased(consumer)])
    admin.cancel_messages(leased(consumer).id)
    admin.fail_messages(leased(consumer).id, "why")
    consumer.release(leased(consumer))
    work(consumer, lambda _: None)
    producer.enqueue(7, max_attempts=2)
    consumer.fail(leased(consumer), "why", delay=60)
    assert admin.messages("letters") == []
    assert [message.payload for message in admin.messages("work")] == [7]


def test_a_queue_without_one_leaves_no_copy(
    admin: Admin, producer: Producer, consumer: Consumer, config: Config
) -> None:
    """A dead letter queue can be taken away, and given again."""
    assert admin.update_queue("work", dead_letter="").dead_letter is None
    producer.enqueue(1)
    by_its_last_attempt(admin, consumer, config)
    assert admin.messages("letters") == []
    assert admin.update_queue("work", dead_letter="letters").dead_letter == "letters"
    assert admin.update_queue("work", max_attempts=1).dead_letter == "letters"
    producer.enqueue(2)
    by_its_last_attempt(admin, consumer, config)
    assert [message.payload for message in admin.messages("letters")] == [2]


def test_many_die_at_once(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """Each of a hundred exhausted messages has its copy, and no one has two."""
    made = producer.batch_enqueue(range(100))
    assert len(consumer.dequeue_batch(100)) == 100
    expire(admin)
    assert consumer.dequeue() is None
    copies = admin.messages("letters", limit=1000)
    assert sorted(origin_of(copy)["id"] for copy in copies) == [m.id for m in made]
    assert {origin_of(copy)["id"]: copy.payload for copy in copies} == {
        message.id: message.payload for message in made
    }


def origin_of(copy: MessageInfo) -> dict[str, object]:
    origin: dict[str, object] = copy.headers["pgqrs"]["dead_letter_of"]
    return origin


def test_a_copy_exists_only_with_the_death(
    admin: Admin, producer: Producer, consumer: Consumer, engine: Engine
) -> None:
    """A transaction that is rolled back leaves neither."""
    producer.enqueue(1)
    held = leased(consumer)
    with engine.connect() as connection:
        assert consumer.within(connection).fail(held, "why")
        assert len(Admin(connection).messages("letters")) == 1
        connection.rollback()
    assert admin.messages("letters") == []
    assert [message.state for message in admin.messages("work")] == ["active"]


def test_headers_of_others_are_kept(
    admin: Admin, producer: Producer, consumer: Consumer, config: Config
) -> None:
    """Only the key of pgqrs is replaced, and a copy in the next queue names the one before."""
    admin.create_queue("last")
    admin.update_queue("letters", dead_letter="last", max_attempts=1)
    made = producer.enqueue(1)
    with admin.pool.begin() as connection:
        connection.execute(text("""UPDATE pgqrs.pgqrs_messages SET headers = '{"trace": "x"}'"""))
    by_its_last_attempt(admin, consumer, config)
    (copy,) = admin.messages("letters")
    assert (copy.headers["trace"], origin_of(copy)["id"]) == ("x", made.id)
    with Consumer(config, "letters") as other:
        by_its_last_attempt(admin, other, config)
    (last,) = admin.messages("last")
    assert (last.headers["trace"], origin_of(last)["id"]) == ("x", copy.id)
    assert origin_of(last)["queue"] == "letters"


def test_the_name_is_shown(admin: Admin, producer: Producer) -> None:
    """Wherever a queue is given, its dead letter queue is named."""
    assert producer.queue == "work"
    assert admin.get_queue("work").dead_letter == "letters"
    assert {q.queue_name: q.dead_letter for q in admin.list_queues()} == {
        "letters": None,
        "work": "letters",
    }
    assert admin.pause_queue("work").dead_letter == "letters"
    assert Queues(admin).get_by_name("work") == admin.get_queue("work")
    letters = admin.get_queue("letters").id
    row = {"queue_name": "more", "dead_letter_queue_id": letters}
    assert Queues(admin).insert(**row).dead_letter == "letters"


def test_an_unknown_one_is_refused_before_anything_is_written(
    admin: Admin, producer: Producer
) -> None:
    """Neither is a queue created nor one changed, be it there already or not."""
    assert producer.queue == "work"
    for act in (
        lambda: admin.create_queue("new", dead_letter="nowhere"),
        lambda: admin.create_queue("work", dead_letter="nowhere", exist_ok=True),
        lambda: admin.update_queue("work", dead_letter="nowhere", max_attempts=9),
    ):
        with pytest.raises(QueueNotFoundError) as caught:
            act()
        assert caught.value.queue == "nowhere"
    with pytest.raises(QueueNotFoundError) as caught:
        admin.update_queue("nobody", dead_letter="letters")
    assert caught.value.queue == "nobody"
    assert [queue.queue_name for queue in admin.list_queues()] == ["letters", "work"]
    assert admin.get_queue("work").max_attempts == 1
    assert admin.create_queue("work", exist_ok=True, dead_letter="letters").id


def test_a_queue_is_not_its_own(admin: Admin, producer: Producer) -> None:
    """What dies in it would come back for ever."""
    for act in (admin.create_queue, admin.update_queue):
        with pytest.raises(ValueError, match="cannot be its own dead letter queue"):
            act(producer.queue, dead_letter="work")


def test_a_dead_letter_queue_in_use_is_not_deleted(admin: Admin, producer: Producer) -> None:
    """The error names who uses it, and nothing was purged for it."""
    admin.create_queue("more", dead_letter="letters")
    with Producer(admin, "letters") as other:
        other.enqueue(1)
    for force in (False, True):
        with pytest.raises(QueueInUseError, match="'more', 'work'") as caught:
            admin.delete_queue("letters", force)
        assert caught.value.users == ("more", "work")
    assert len(admin.messages("letters")) == 1
    admin.delete_queue("more")
    admin.update_queue(producer.queue, dead_letter="")
    admin.delete_queue("letters", force=True)
    assert [queue.queue_name for queue in admin.list_queues()] == ["work"]


def test_what_died_is_listed(admin: Admin, producer: Producer, consumer: Consumer) -> None:
    """The newest first, page by page, and nothing but the dead."""
    made = producer.batch_enqueue(range(5))
    for n in range(5):
        if n == 2:
            consumer.archive(leased(consumer), "failed")
        else:
            assert consumer.fail(leased(consumer), f"no {n}")
    ids = [made[n].id for n in (4, 3, 1, 0)]
    assert [dead.id for dead in admin.dead_letters("work")] == ids
    assert [dead.id for dead in admin.dead_letters("work", limit=2, offset=1)] == ids[1:3]
    assert admin.dead_letters("work")[0].error == "no 4"
    with pytest.raises(QueueNotFoundError):
        admin.dead_letters("nobody")


def test_dead_letters_are_replayed(
    admin: Admin, producer: Producer, consumer: Consumer, config: Config
) -> None:
    """They wait in their queue again, all attempts anew; what died stays archived."""
    made = [producer.enqueue({"n": n}, max_attempts=1, priority=n) for n in range(3)]
    for _ in made:
        by_its_last_attempt(admin, consumer, config)
    with Consumer(config, "letters") as other:  # somebody tried, and it was put off
        other.fail(leased(other), "still", delay=600)
    assert admin.replay_dead_letters("letters", limit=2) == 2
    assert len(admin.messages("letters")) == 1
    assert admin.replay_dead_letters("letters") == 1
    assert admin.replay_dead_letters("letters") == 0
    back = admin.messages("work")
    assert [message.payload["n"] for message in back] == [2, 1, 0]
    assert {message.headers["pgqrs"]["replay_of"] for message in back} == {m.id for m in made}
    assert {(m.state, m.attempts, m.max_attempts) for m in back} == {("created", 0, 1)}
    again = leased(consumer)
    assert again.attempts == 1
    assert consumer.fail(again, "once more")
    (copy,) = admin.messages("letters")
    assert origin_of(copy)["id"] == again.id
    assert len(admin.dead_letters("work")) == 4


def test_what_cannot_be_replayed_stays(
    admin: Admin, producer: Producer, consumer: Consumer, config: Config
) -> None:
    """Leased letters, what was put there by hand, and what came from a queue that is gone."""
    with Producer(config, "letters") as other:
        other.enqueue("1")
    producer.enqueue(2)
    by_its_last_attempt(admin, consumer, config)
    admin.create_queue("short", max_attempts=1, dead_letter="letters")
    with Producer(config, "short") as short, Consumer(config, "short") as reader:
        short.enqueue(3)
        by_its_last_attempt(admin, reader, config)
    admin.delete_queue("short", force=True)
    with Consumer(config, "letters") as reader:
        assert len(reader.dequeue_batch(10)) == 3
        assert admin.replay_dead_letters("letters") == 0
    assert admin.replay_dead_letters("letters") == 1
    assert sorted(message.payload for message in admin.messages("letters")) == [1, 3]
    with pytest.raises(QueueNotFoundError):
        admin.replay_dead_letters("nobody")


def test_under_asyncio(config: Config, producer: Producer, consumer: Consumer) -> None:
    """The twin does the same, awaited."""
    producer.enqueue(1)
    assert consumer.fail(leased(consumer), "why")

    async def main() -> None:
        async with AsyncAdmin(config) as admin:
            assert (await admin.get_queue("work")).dead_letter == "letters"
            assert len(await admin.dead_letters("work")) == 1
            assert await admin.replay_dead_letters("letters") == 1
            with pytest.raises(QueueInUseError):
                await admin.delete_queue("letters", force=True)

    asyncio.run(main())
