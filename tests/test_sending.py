"""Statements of every message go past SQLAlchemy, and nobody sees a difference."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import traceback
from typing import Any

import pytest
from psycopg import RawCursor
from sqlalchemy import Connection, Engine, event, text

from pgqrs import (
    Admin,
    ArchivedMessage,
    Config,
    Consumer,
    Producer,
    QueueMessage,
    SchemaMissingError,
)
from pgqrs.aio import AsyncConsumer, AsyncProducer
from pgqrs.call import call

PAYLOAD = {"text": "Grüße", "number": 2**70, "nothing": None}


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> None:
    admin.create_queue("q")


@pytest.fixture
def alone(dsn: str) -> Config:
    """Give a configuration under which no thread notifies besides."""
    return Config.from_dsn(dsn, enable_listen_notify=False)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give what SQLAlchemy executes."""
    seen: list[str] = []
    real = Connection.execute

    def execute(self: Connection, statement: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(str(statement))
        return real(self, statement, *args, **kwargs)

    monkeypatch.setattr(Connection, "execute", execute)
    return seen


def shape(message: QueueMessage | ArchivedMessage | None) -> dict[str, Any]:
    """Give what is said of a message, and of what differs each time the type."""
    assert message is not None
    fields = {name: getattr(message, name) for name in message.__dataclass_fields__}
    varies = {name for name in fields if name == "vt" or name.endswith(("id", "_at"))}
    same = {name: type(value) if name in varies else value for name, value in fields.items()}
    return {**same, "payload": message.payload}


def life(producer: Producer, consumer: Consumer) -> list[Any]:
    """Send what messages need, and give what they gave."""
    given: list[Any] = [shape(producer.enqueue(PAYLOAD, priority=1, max_attempts=2))]
    given += map(shape, producer.batch_enqueue([PAYLOAD, 2, 3, 4, 5]))
    first, *others = consumer.dequeue_batch(4)
    given += map(shape, [first, *others, consumer.extend_visibility(first, 60)])
    given.append(shape(consumer.archive(first, output={"done": 1})))
    done, more = consumer.archive_and_dequeue(others[:2], 1)
    given += [done, *map(shape, more), consumer.fail(others[2], ValueError("no"), delay=60)]
    consumer.release(more[0])
    given.append(consumer.archive_batch(consumer.dequeue_batch(1)))
    given.append(consumer.delete_batch(consumer.dequeue_batch(9)))
    return given


def test_ours_go_past_and_the_hosts_do_not(
    alone: Config, engine: Engine, executed: list[str]
) -> None:
    """With the same values from both."""
    with Producer(alone, "q") as producer, Consumer(alone, "q") as consumer:
        life(producer, consumer)  # with what is asked for once
        executed.clear()
        ours = life(producer, consumer)
        assert executed == []
    host = Config(enable_listen_notify=False)
    with Producer(engine, "q", config=host) as producer, Consumer(engine, "q") as consumer:
        assert life(producer, consumer) == ours
    assert len(executed) > 10


def test_asyncio_goes_past_too(alone: Config, executed: list[str]) -> None:
    """Its steps are the same functions."""

    async def live() -> list[Any]:
        async with AsyncProducer(alone, "q") as producer, AsyncConsumer(alone, "q") as consumer:
            for _ in range(2):
                executed.clear()
                (number,) = [m.payload for m in await producer.batch_enqueue([2**70])]
                message = await consumer.dequeue()
                assert message is not None
                archived = await consumer.archive(message)
            assert executed == []
        return [number, message.payload, archived.payload]

    assert asyncio.run(live()) == [2**70] * 3


@pytest.mark.parametrize("everywhere", [False, True])
def test_who_listens_hears(
    alone: Config,
    monkeypatch: pytest.MonkeyPatch,
    everywhere: bool,  # noqa: FBT001
) -> None:
    """To one engine or to all, as tools that trace do; and what is sent is the same text."""
    monkeypatch.setattr(Engine, "_has_events", False)  # which listening to all sets for good
    sent: list[str] = []
    heard: list[str] = []
    real = RawCursor.execute

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        heard.append(statement)

    def send(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(statement)
        return real(self, statement, *args, **kwargs)

    with Producer(alone, "q") as producer, Consumer(alone, "q") as consumer:
        life(producer, consumer)
        monkeypatch.setattr(RawCursor, "execute", send)
        quiet = life(producer, consumer)
        unheard, target = list(sent), Engine if everywhere else producer.binding.engine
        sent.clear()
        event.listen(target, "before_cursor_execute", hear)
        try:
            assert life(producer, consumer) == quiet
        finally:
            event.remove(target, "before_cursor_execute", hear)
        assert heard == sent == unheard


def test_an_echo_shows_it(alone: Config, caplog: pytest.LogCaptureFixture) -> None:
    """Of engines whose logger is on when their connection is made."""
    caplog.set_level(logging.INFO, "sqlalchemy.engine")
    with Producer(alone, "q") as producer:
        producer.enqueue(1)
    assert any("INSERT INTO pgqrs.pgqrs_messages" in line for line in caplog.messages)


def test_what_the_server_refuses_leaves_the_connection(alone: Config, engine: Engine) -> None:
    """The error is pgqrs's, shows no data, and nothing of it stays."""
    payload = {"secret": 1}
    with Producer(alone, "q") as producer:
        producer.enqueue(1)
        backend = producer.binding.run(call(backend_of))
        do(engine, "ALTER TABLE pgqrs.pgqrs_queues RENAME TO gone")
        with pytest.raises(SchemaMissingError) as caught:
            producer.enqueue(payload)
        assert "secret" not in "".join(traceback.format_exception(caught.value))
        do(engine, "ALTER TABLE pgqrs.gone RENAME TO pgqrs_queues")
        assert producer.binding.run(call(backend_of)) == backend
        assert producer.enqueue(2).payload == 2


def do(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def backend_of(connection: Connection) -> Any:
    return connection.scalar(text("SELECT pg_backend_pid()"))


def test_an_interrupt_in_the_middle_gives_the_connection_up(alone: Config, engine: Engine) -> None:
    """Nobody knows what of an answer is still to come; the next call has another one."""
    with Producer(alone, "q") as producer, engine.begin() as other:
        producer.enqueue(1)
        backend = producer.binding.run(call(backend_of))
        other.execute(text("LOCK pgqrs.pgqrs_messages"))
        usual = signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.5, signal.raise_signal, [signal.SIGINT]).start()
        try:
            with pytest.raises(KeyboardInterrupt):
                producer.enqueue(2)
        finally:
            signal.signal(signal.SIGINT, usual)
        other.rollback()
        assert producer.binding.run(call(backend_of)) != backend
        assert producer.enqueue(3).payload == 3
