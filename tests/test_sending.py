"""Statements of every message go past SQLAlchemy, and nobody sees a difference."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
import traceback
import uuid
from typing import Any

import pytest
from psycopg import RawCursor
from sqlalchemy import Connection, Engine, event, text
from waiting import BLOCKED, ask, crowd, locked, until, wait_for

from pgqrs import (
    Admin,
    ArchivedMessage,
    Config,
    Consumer,
    NewMessage,
    Producer,
    QueueMessage,
    QueuePolicy,
    SchemaMissingError,
)
from pgqrs.aio import AsyncAdmin, AsyncConsumer, AsyncProducer
from pgqrs.call import call

pytestmark = pytest.mark.matrix

COUNT = "SELECT count(*) FROM pgqrs.pgqrs_messages"
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
    varies = {name for name in fields if name == "vt" or name.endswith(("id", "_at", "key"))}
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


def life_of_its_own(producer: Producer, consumer: Consumer) -> list[Any]:
    """Do the same with messages that have options of their own, one at a time."""
    given: list[Any] = []
    for end in (consumer.archive, consumer.delete, lambda each: consumer.fail(each, "why")):
        options: dict[str, Any] = {"message_id": uuid.uuid4(), "headers": {"trace": "ü"}}
        options |= {"singleton_key": str(uuid.uuid4()), "singleton_for": 0.5, "expire_in": 99.5}
        waiting = producer.enqueue(NewMessage(PAYLOAD, max_attempts=1, **options))
        given += map(shape, [waiting, producer.extend_visibility(waiting, 0.001)])
        (leased,) = until(lambda: consumer.dequeue_batch(1))
        given += [shape(leased), type(end(leased))]
    return given


@pytest.mark.parametrize("policy", [QueuePolicy.STANDARD, QueuePolicy.SHORT, QueuePolicy.FIFO])
def test_ours_go_past_and_the_hosts_do_not(
    admin: Admin, alone: Config, engine: Engine, executed: list[str], policy: QueuePolicy
) -> None:
    """With the same values from both, also where leases depend on each other."""
    admin.create_queue("other", policy=policy)
    lives = life if policy is QueuePolicy.STANDARD else life_of_its_own
    with Producer(alone, "other") as producer, Consumer(alone, "other") as consumer:
        lives(producer, consumer)  # with what is asked for once
        executed.clear()
        ours = lives(producer, consumer)
        keyed = [each for each in executed if each.startswith("WITH items")]
        assert executed == keyed  # which are in transactions of several statements
    host = Config(enable_listen_notify=False)
    with Producer(engine, "other", config=host) as producer, Consumer(engine, "other") as consumer:
        assert lives(producer, consumer) == ours
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


@pytest.mark.parametrize(
    ("everywhere", "what"),
    [(False, "before_cursor_execute"), (True, "before_cursor_execute"), (False, "do_execute")],
)
def test_who_listens_hears(
    alone: Config,
    monkeypatch: pytest.MonkeyPatch,
    everywhere: bool,  # noqa: FBT001
    what: str,
) -> None:
    """To one engine or to all, as tools that trace do; and what is sent is the same text."""
    monkeypatch.setattr(Engine, "_has_events", False)  # which listening to all sets for good
    monkeypatch.setattr("pgqrs.floor._SLOW", math.inf)  # nor does a slow machine change the text
    sent: list[str] = []
    heard: list[str] = []
    real = RawCursor.execute

    def hear(*args: Any) -> None:  # of one a connection comes first, of the other a cursor
        heard.append(next(each for each in args if isinstance(each, str)))

    def send(self: Any, statement: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(statement)
        return real(self, statement, *args, **kwargs)

    with Producer(alone, "q") as producer, Consumer(alone, "q") as consumer:
        life(producer, consumer)
        monkeypatch.setattr(RawCursor, "execute", send)
        quiet = life(producer, consumer)
        unheard, target = list(sent), Engine if everywhere else producer.binding.engine
        sent.clear()
        event.listen(target, what, hear)
        try:
            assert life(producer, consumer) == quiet
        finally:
            event.remove(target, what, hear)
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


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, TimeoutError])
def test_an_interrupt_in_the_middle_gives_the_connection_up(
    alone: Config, engine: Engine, interrupt: type[BaseException]
) -> None:
    """Nobody knows what of an answer is still to come; the next call has another one."""

    def stop(*_: object) -> None:
        raise interrupt

    def stop_what_waits() -> None:
        wait_for(engine, BLOCKED)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    usual = signal.signal(signal.SIGINT, stop)
    try:
        with Producer(alone, "q") as producer:
            producer.enqueue(1)
            backend = producer.binding.run(call(backend_of))
            with locked(engine), crowd() as start:
                start(1, stop_what_waits)
                with pytest.raises(interrupt):
                    producer.enqueue(2)
            assert producer.binding.run(call(backend_of)) != backend
            assert producer.enqueue(3).payload == 3
    finally:
        signal.signal(signal.SIGINT, usual)


def test_in_a_transaction_on_a_connection_of_ours(admin: Admin, engine: Engine) -> None:
    """Another level of isolation than autocommit: SQLAlchemy knows of it, and ends it."""
    with Producer(admin.pool, "q") as producer, admin.pool.connect() as connection:
        connection.execution_options(isolation_level="READ COMMITTED")
        joined = producer.within(connection)
        joined.enqueue(1)
        connection.commit()
        joined.enqueue(2)
        connection.rollback()
    assert ask(engine, COUNT) == 1


def test_in_a_transaction_on_a_connection_of_ours_with_asyncio(
    alone: Config, engine: Engine
) -> None:
    """The same."""

    async def work() -> None:
        async with (
            AsyncAdmin(alone) as admin,
            AsyncProducer(alone, "q") as producer,
            admin.pool.connect() as connection,
        ):
            await connection.execution_options(isolation_level="READ COMMITTED")
            joined = producer.within(connection)
            await joined.enqueue(1)
            await connection.commit()
            await joined.enqueue(2)
            await connection.rollback()

    asyncio.run(work())
    assert ask(engine, COUNT) == 1
