"""Connections that break before the reply comes: what is sent again, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from lossy import Lossy, lossy
from sqlalchemy import URL, Engine
from sqlalchemy.exc import DBAPIError
from waiting import ask

from pgqrs import (
    Admin,
    Config,
    Consumer,
    LeaseLostError,
    OutcomeUnknownError,
    Producer,
    QueueMessage,
    UnavailableError,
)
from pgqrs.aio import AsyncProducer

pytestmark = pytest.mark.matrix

MESSAGES = "SELECT count(*) FROM pgqrs.pgqrs_messages"
ARCHIVED = "SELECT count(*) FROM pgqrs.pgqrs_archive"
EXPIRE = "UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 hour' RETURNING 1"


class Loss:
    """A producer and consumer behind a proxy, and another consumer that sees the server plainly."""

    def __init__(self, config: Config, proxy: Lossy, engine: Engine) -> None:
        self.proxy = proxy
        self.engine = engine
        self.producer = Producer(config, "q")
        self.consumer = Consumer(config, "q")
        self.thief = Consumer(engine, "q")
        self.producer.heartbeat()
        self.consumer.heartbeat()
        self.thief.heartbeat()

    def leased(self, count: int = 1) -> list[QueueMessage]:
        """Enqueue so many messages and lease them."""
        self.producer.batch_enqueue([{"n": n} for n in range(count)])
        messages = self.consumer.dequeue_batch(count)
        assert len(messages) == count
        return messages

    def steal(self) -> None:
        """Have all leases run out, and lease one message elsewhere."""
        ask(self.engine, EXPIRE)
        assert self.thief.dequeue() is not None

    def count(self, query: str) -> int:
        return int(ask(self.engine, query))

    def close(self) -> None:
        for worker in (self.producer, self.consumer, self.thief):
            worker.close()


@pytest.fixture
def loss(url: URL, engine: Engine, admin: Admin) -> Iterator[Loss]:
    admin.create_queue("q")
    with lossy(url) as (proxy, through):
        dsn = through.set(drivername="postgresql").render_as_string(hide_password=False)
        loss = Loss(Config.from_dsn(dsn), proxy, engine)
        yield loss
        assert proxy.is_spent
        loss.close()


@pytest.mark.parametrize("done", [False, True])
def test_enqueue(loss: Loss, done: bool) -> None:  # noqa: FBT001
    """An enqueue without a reply is done or not, and never sent again: the caller must look."""
    loss.proxy.lose(b"INSERT", done=done)
    with pytest.raises(OutcomeUnknownError, match="may be made or not: look") as caught:
        loss.producer.enqueue({"name": "s3cret"})
    assert not caught.value.retryable
    assert isinstance(caught.value.__cause__, DBAPIError)
    assert "s3cret" not in str(caught.value)
    assert loss.count(MESSAGES) == done
    loss.producer.enqueue({})
    assert loss.count(MESSAGES) == done + 1


@pytest.mark.parametrize("done", [False, True])
def test_batch(loss: Loss, done: bool) -> None:  # noqa: FBT001
    """A batch of one statement is all there, or not at all."""
    loss.proxy.lose(b"INSERT", done=done)
    with pytest.raises(OutcomeUnknownError):
        loss.producer.batch_enqueue([{}] * 7)
    assert loss.count(MESSAGES) == 7 * done


@pytest.mark.parametrize("done", [False, True])
def test_commit_of_a_large_batch(loss: Loss, done: bool) -> None:  # noqa: FBT001
    """A batch of several statements is in doubt where the reply to its commit is lost."""
    config = loss.producer.binding.config.model_copy(update={"enqueue_chunk_rows": 2})
    with Producer(config, "q") as producer:
        producer.heartbeat()
        loss.proxy.lose(b"COMMIT\0", done=done)
        with pytest.raises(OutcomeUnknownError):
            producer.batch_enqueue([{}] * 7)
    assert loss.count(MESSAGES) == 7 * done


def test_large_batch_before_its_commit(loss: Loss) -> None:
    """A batch of several statements that breaks before its commit leaves nothing."""
    config = loss.producer.binding.config.model_copy(update={"enqueue_chunk_rows": 2})
    with Producer(config, "q") as producer:
        producer.heartbeat()
        loss.proxy.lose(b"INSERT")
        with pytest.raises(OutcomeUnknownError):
            producer.batch_enqueue([{}] * 7)
    assert loss.count(MESSAGES) == 0


def test_dequeue(loss: Loss) -> None:
    """A lease without a reply is nobody's until it runs out; then the message comes again."""
    loss.producer.enqueue({})
    loss.proxy.lose(b"UPDATE")
    with pytest.raises(UnavailableError) as caught:
        loss.consumer.dequeue()
    assert caught.value.retryable
    assert loss.consumer.dequeue() is None
    ask(loss.engine, EXPIRE)
    message = loss.consumer.dequeue()
    assert message is not None
    assert message.read_ct == 2


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("by_id", [False, True])
def test_archive(loss: Loss, done: bool, by_id: bool) -> None:  # noqa: FBT001
    """An archive is sent again, and gives the archived message whichever time it was done."""
    [message] = loss.leased()
    loss.proxy.lose(b"DELETE", done=done)
    archived = loss.consumer.archive(message.id if by_id else message, "partly", output=[1])
    assert (archived.id, archived.status, archived.output) == (message.id, "partly", [1])
    assert archived.payload == {"n": 0}
    assert (loss.count(MESSAGES), loss.count(ARCHIVED)) == (0, 1)
    with pytest.raises(LeaseLostError):
        loss.consumer.archive(message)


@pytest.mark.parametrize("done", [False, True])
def test_archive_and_dequeue(loss: Loss, done: bool) -> None:  # noqa: FBT001
    """It is sent again: what was archived counts, and what was leased then waits for its end."""
    messages = loss.leased(2)
    loss.producer.batch_enqueue([{}] * 4)
    loss.proxy.lose(b"DELETE", done=done)
    archived, next_ones = loss.consumer.archive_and_dequeue(messages, 2)
    assert archived == [True, True]
    assert len({message.id for message in next_ones}) == 2
    assert (loss.count(MESSAGES), loss.count(ARCHIVED)) == (4, 2)
    ask(loss.engine, EXPIRE)
    assert [m.read_ct for m in loss.thief.dequeue_batch(4)] == [2, 2, 1 + done, 1 + done]


def test_archive_without_contents(loss: Loss, admin: Admin) -> None:
    """What the archive mode leaves out is left out of the answer too, however late it came."""
    admin.update_queue("q", archive_mode="meta")
    [message] = loss.leased()
    loss.proxy.lose(b"DELETE")
    archived = loss.consumer.archive(message, output=[1])
    assert (archived.payload, archived.output) == (None, None)


def test_archive_again_and_again(loss: Loss) -> None:
    """Several replies may be lost; with the last one the error says that nobody knows."""
    [first, second] = loss.leased(2)
    for _ in range(3):
        loss.proxy.lose(b"DELETE", done=False)
    assert loss.consumer.archive(first).id == first.id
    for _ in range(4):
        loss.proxy.lose(b"DELETE")
    with pytest.raises(OutcomeUnknownError):
        loss.consumer.archive(second)
    assert loss.consumer.archive(second).id == second.id
    assert loss.count(ARCHIVED) == 2


@pytest.mark.parametrize("act", ["archive", "delete", "release"])
def test_lease_lost_meanwhile(loss: Loss, act: str) -> None:
    """Where another consumer has the message by the time it is sent again, the lease is lost."""
    [message] = loss.leased()
    loss.proxy.lose(b"pgqrs_messages", done=False, then=loss.steal)
    if act == "release":  # to give back what is gone is no loss
        loss.consumer.release(message)
    else:
        with pytest.raises(LeaseLostError):
            getattr(loss.consumer, act)(message)
    assert (loss.count(MESSAGES), loss.count(ARCHIVED)) == (1, 0)
    assert loss.thief.release([message]) == [False]
    ask(loss.engine, EXPIRE)
    assert loss.thief.dequeue() is not None


@pytest.mark.parametrize("act", ["archive_batch", "delete_batch"])
@pytest.mark.parametrize("done", [False, True])
def test_batches(loss: Loss, act: str, done: bool) -> None:  # noqa: FBT001
    """A batch is sent again, and says of each whether its lease was held, in order."""
    messages = loss.leased(4)
    loss.steal()
    given: list[Any] = [*messages[::-1], messages[2].id, 10**9]
    loss.proxy.lose(b"DELETE", done=done)
    assert getattr(loss.consumer, act)(given) == [True, True, True, False, False, False]
    assert loss.count(MESSAGES) == 1
    assert loss.count(ARCHIVED) == (3 if act == "archive_batch" else 0)


@pytest.mark.parametrize("done", [False, True])
def test_delete(loss: Loss, done: bool) -> None:  # noqa: FBT001
    """A delete is sent again, and succeeds whichever time it was done."""
    [message] = loss.leased()
    loss.proxy.lose(b"DELETE", done=done)
    loss.consumer.delete(message)
    assert loss.count(MESSAGES) == 0
    with pytest.raises(LeaseLostError):
        loss.consumer.delete(message)


@pytest.mark.parametrize("done", [False, True])
def test_release(loss: Loss, done: bool) -> None:  # noqa: FBT001
    """A release is sent again, and costs no attempt whichever time it was done."""
    [message] = loss.leased()
    loss.proxy.lose(b"UPDATE", done=done)
    loss.consumer.release(message)
    again = loss.consumer.dequeue()
    assert again is not None
    assert (again.read_ct, again.attempts) == (2, 1)


@pytest.mark.parametrize("done", [False, True])
def test_extend(loss: Loss, done: bool) -> None:  # noqa: FBT001
    """An extension is not sent again, but may be: it never shortens."""
    [message] = loss.leased()
    loss.proxy.lose(b"UPDATE", done=done)
    with pytest.raises(UnavailableError):
        loss.consumer.extend_visibility(message, 100)
    assert loss.consumer.extend_visibility(message, 100).vt > message.vt


def test_leaving_gives_back(loss: Loss) -> None:
    """Leaving a `with` block gives leases back even where the first reply is lost."""
    loss.producer.batch_enqueue([{}] * 3)
    with Consumer(loss.consumer, "q") as consumer:
        assert len(consumer.dequeue_batch(3)) == 3
        loss.proxy.lose(b"UPDATE")
    assert len(loss.thief.dequeue_batch(3)) == 3


def test_break_while_connecting(loss: Loss) -> None:
    """A connection that breaks before anything was asked leaves nothing in doubt."""
    with Producer(loss.producer.binding.config.model_copy(update={"max_attempts": 7}), "q") as new:
        loss.proxy.lose(done=False)
        with pytest.raises(UnavailableError, match="cannot be reached"):
            new.enqueue({})
        new.enqueue({})
    assert loss.count(MESSAGES) == 1


def test_burying_comes_before_the_next_lease(loss: Loss) -> None:
    """What fails there takes no message from anybody, and the next call buries."""
    loss.producer.enqueue({"n": 1}, max_attempts=1)
    assert loss.consumer.dequeue() is not None
    ask(loss.engine, EXPIRE)
    loss.producer.batch_enqueue([{"n": 2}, {"n": 3}])
    loss.proxy.lose(b"INSERT INTO pgqrs.pgqrs_archive", done=False)
    (second,) = loss.consumer.dequeue_batch(1)
    assert (second.payload, loss.count(ARCHIVED)) == ({"n": 2}, 0)
    with pytest.raises(UnavailableError):
        loss.consumer.dequeue()
    (third,) = loss.consumer.dequeue_batch(1)
    assert (third.payload, third.read_ct) == ({"n": 3}, 1)
    assert loss.consumer.dequeue() is None
    assert loss.count(ARCHIVED) == 1


def test_the_sign_off_at_the_end(loss: Loss, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody can be told of it, what the block did stands, and its worker goes stale."""
    config = loss.producer.binding.config.model_copy(update={"enqueue_chunk_rows": 2})

    async def likewise() -> None:
        async with AsyncProducer(config, "q", "h", 2) as producer:
            await producer.enqueue({})
            loss.proxy.lose(b"shutdown_at", done=False)

    with Producer(config, "q", "h", 1) as producer:
        producer.enqueue({})
        loss.proxy.lose(b"shutdown_at", done=False)
    asyncio.run(likewise())
    assert loss.count(MESSAGES) == 2
    assert loss.count("SELECT count(*) FROM pgqrs.pgqrs_workers WHERE shutdown_at IS NULL") == 5
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 2
    assert all("could not sign off, and its leases are left to run out: " in each for each in told)
