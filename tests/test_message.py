"""Typed messages and the handlers found by their type."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pydantic
import pytest
from sqlalchemy import text
from waiting import until

import pgqrs
from pgqrs import Admin, Config, Consumer, Handlers, Message, Producer, QueueMessage

pytestmark = pytest.mark.matrix


class EmailMessage(Message, message_type="email"):
    to: str
    subject: str = "Welcome!"


class HTTPCallMessage(Message):
    url: str


class Plain(pydantic.BaseModel):
    to: str


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> pgqrs.QueueInfo:
    return admin.create_queue("q")


@pytest.fixture
def producer(config: Config) -> Iterator[Producer]:
    with Producer(config, "q") as producer:
        yield producer


@contextmanager
def working(config: Config, handlers: Handlers) -> Iterator[None]:
    with Consumer(config, "q") as consumer:
        work = threading.Thread(target=consumer.run, args=(handlers,), kwargs={"prefetch": 50})
        work.start()
        try:
            yield
        finally:
            consumer.stop()
            work.join(20)


def test_the_name_is_given_or_that_of_the_class() -> None:
    """`message_type` is what the class says, or its own name in snake case."""
    assert EmailMessage.message_type == "email"
    assert HTTPCallMessage.message_type == "http_call_message"
    with pytest.raises(ValueError, match="characters"):
        type("Long", (Message,), {}, message_type="x" * 201)


def test_the_type_travels_with_the_message(producer: Producer, config: Config) -> None:
    """A model is stored as JSON with its type's name, and comes back as a model when asked."""
    sent = producer.enqueue(EmailMessage(to="ada@example.com"))
    assert sent.message_type == "email"
    with Consumer(config, "q") as consumer:
        message = consumer.dequeue(type=EmailMessage)
        assert message is not None
        assert message.payload == EmailMessage(to="ada@example.com")
        assert message.message_type == "email"
        assert message.payload is message.payload
        (again,) = [message.typed(EmailMessage)]
        assert again.id == message.id
        consumer.archive(message)


def test_a_mixed_batch_keeps_order_and_types(producer: Producer, admin: Admin) -> None:
    """Messages of several types in one batch keep their order, and are all in or none."""
    batch = [EmailMessage(to="a"), {"plain": 1}, HTTPCallMessage(url="u"), EmailMessage(to="b")]
    sent = producer.batch_enqueue(batch)
    assert [message.message_type for message in sent] == [
        "email",
        None,
        "http_call_message",
        "email",
    ]
    assert [message.id for message in sent] == sorted(message.id for message in sent)
    stored = pgqrs.Messages(admin).list()
    assert [message.message_type for message in stored] == [m.message_type for m in sent]
    with pytest.raises(pgqrs.PayloadError, match="item 1"):
        producer.batch_enqueue([EmailMessage(to="c"), {1: 2}])
    assert pgqrs.Messages(admin).count() == 4


def test_what_does_not_fit_says_so_when_read(producer: Producer, config: Config) -> None:
    """A payload that is not the model asked for raises PayloadError naming the field."""
    producer.batch_enqueue([{"to": 5}, {"to": "x"}])
    with Consumer(config, "q") as consumer:
        bad, good = consumer.dequeue_batch(2, type=Plain)
        with pytest.raises(pgqrs.PayloadError, match="Plain"):
            _ = bad.payload
        assert good.payload == Plain(to="x")
        assert pickle.loads(pickle.dumps(good)).payload == Plain(to="x")


def test_handlers_are_found_by_type(producer: Producer, config: Config, admin: Admin) -> None:
    """Each type goes to its handler, as its model; what does not fit fails, the error kept."""
    handlers = Handlers()
    seen: list[object] = []

    @handlers.on(EmailMessage)
    def email(message: QueueMessage[EmailMessage]) -> str:
        seen.append(message.payload)
        return message.payload.to

    @handlers.on(HTTPCallMessage)
    def call(message: QueueMessage[HTTPCallMessage]) -> None:
        seen.append(message.payload)

    assert handlers.types == ["email", "http_call_message"]
    producer.batch_enqueue([EmailMessage(to="a"), HTTPCallMessage(url="u")])
    bad = producer.enqueue(EmailMessage(to="b"), max_attempts=1)
    with admin.pool.connect() as connection:
        spoil = text("""UPDATE pgqrs.pgqrs_messages SET payload = '{"to": 5}' WHERE id = :id""")
        connection.execute(spoil, {"id": bad.id})
    with working(config, handlers):
        until(lambda: admin.queue_metrics("q").archived == 3)
    assert seen == [EmailMessage(to="a"), HTTPCallMessage(url="u")]
    dead = pgqrs.Archive(admin).get(bad.id)
    assert dead.status == "dead"
    assert "EmailMessage" in dead.error["message"]


def test_coroutine_handlers(producer: Producer, config: Config, admin: Admin) -> None:
    """A registry of coroutine functions runs on an event loop."""
    handlers = Handlers()

    @handlers.on(EmailMessage)
    async def email(message: QueueMessage[EmailMessage]) -> str:
        return message.payload.to

    producer.enqueue(EmailMessage(to="a"))
    with working(config, handlers):
        until(lambda: admin.queue_metrics("q").archived == 1)
    assert pgqrs.Archive(admin).list()[0].output == "a"


def test_a_registry_is_consistent() -> None:
    """One handler a type, and all plain or all coroutine functions."""
    handlers = Handlers()
    handlers.on(EmailMessage)(print)
    with pytest.raises(ValueError, match="already"):
        handlers.on(EmailMessage)(print)

    async def later(_message: QueueMessage[HTTPCallMessage]) -> None: ...

    with pytest.raises(TypeError, match="plain"):
        handlers.on(HTTPCallMessage)(later)


def test_unknown_types_wait_without_losing_an_attempt(
    producer: Producer, config: Config, admin: Admin
) -> None:
    """Behind many messages that this worker does not know, those it knows still flow.

    The others go back at once, due later and later, and are as fresh as before for a newer worker.
    """
    handlers = Handlers()
    handlers.on(EmailMessage)(lambda message: message.payload.to)
    producer.batch_enqueue([HTTPCallMessage(url="u")] * 300)
    producer.batch_enqueue([EmailMessage(to=str(n)) for n in range(20)])
    with working(config, handlers):
        until(lambda: admin.queue_metrics("q").archived == 20)
        until(lambda: admin.queue_metrics("q").locked == 0)
    left = pgqrs.Messages(admin).list(limit=500)
    assert len(left) == 300
    assert {message.attempts for message in left} == {0}
    handlers.on(HTTPCallMessage)(lambda message: message.payload.url)
    with admin.pool.connect() as connection:
        connection.execute(text("UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 s'"))
    with working(config, handlers):
        until(lambda: admin.queue_metrics("q").total_messages == 0)
    assert {message.status for message in pgqrs.Archive(admin).list(limit=500)} == {"completed"}


def test_batches_and_types_do_not_mix(config: Config) -> None:
    """Handlers by type get one message at a time; asking for batches is refused."""
    with Consumer(config, "q") as consumer, pytest.raises(ValueError, match="batches"):
        consumer.run(Handlers(), batch=True)
