"""What Sessions and Connections do of their own: flushes, savepoints, snapshots, streams."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import pytest
from host import Base, Order, is_usable, order, state_of
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.orm import Session
from waiting import ask

from pgqrs import Admin, Config, Consumer, Producer, QueueNotFoundError

pytestmark = pytest.mark.matrix

WORKERS: Final = "SELECT count(*) FROM pgqrs.pgqrs_workers"
RUNNING: Final = f"{WORKERS} WHERE shutdown_at IS NULL"


@pytest.fixture
def host(engine: Engine, admin: Admin) -> Engine:
    """The host's engine on a database with its table and a queue."""
    Base.metadata.create_all(engine)
    admin.create_queue("q")
    return engine


@pytest.fixture
def producer(host: Engine, config: Config) -> Iterator[Producer]:
    assert host is not None
    with Producer(config, "q") as producer:
        yield producer


@pytest.fixture
def consumer(producer: Producer) -> Iterator[Consumer]:
    with Consumer(producer, "q") as consumer:
        yield consumer


def test_session_is_flushed_first(host: Engine, producer: Producer) -> None:
    """With autoflush, what is pending is in the database before the message is."""
    with Session(host) as session:
        sent: list[str] = []
        event.listen(host, "before_cursor_execute", lambda *given: sent.append(given[2]))
        pending = Order()
        session.add(pending)
        producer.within(session).enqueue({})
        assert pending.id is not None
        tables = [name for line in sent for name in ("orders", "pgqrs_messages") if name in line]
        assert tables == ["orders", "pgqrs_messages"]
        session.commit()
    orders, [message] = state_of(host)
    assert (orders, message[0]) == (1, "message")


def test_no_autoflush(host: Engine, producer: Producer) -> None:
    """Without autoflush nothing is flushed: by the Session's setting, or for a while."""
    with Session(host, autoflush=False) as session:
        session.add(pending := Order())
        producer.within(session).enqueue({})
        assert inspect(pending).pending
        session.rollback()
    with Session(host) as session:
        session.add(pending := Order())
        with session.no_autoflush:
            producer.within(session).enqueue({})
            assert inspect(pending).pending
        producer.within(session).enqueue({})
        assert inspect(pending).persistent


def test_flush_that_fails_is_the_hosts(host: Engine, producer: Producer) -> None:
    """What goes wrong with the host's own rows is the host's own error, and nothing is sent."""
    with Session(host) as session:
        session.execute(text("INSERT INTO orders VALUES (1, 'thing')"))
        session.add(Order(id=1))
        with pytest.raises(IntegrityError):
            producer.within(session).enqueue({})
        with pytest.raises(PendingRollbackError):
            producer.within(session).enqueue({})
        session.rollback()
        producer.within(session).enqueue({})
        session.commit()
    assert len(state_of(host)[1]) == 1


@pytest.mark.parametrize("moment", ["before_flush", "after_flush", "after_flush_postexec"])
def test_in_a_flush(host: Engine, producer: Producer, moment: str) -> None:
    """An outbox that enqueues while a Session flushes works, and flushes no second time."""
    flushes: list[str] = []
    with Session(host) as session:

        @event.listens_for(session, moment)
        def enqueue(session: Session, *_: Any) -> None:
            if not flushes:
                flushes.append(moment)
                producer.within(session).enqueue({"orders": len(session.new)})

        session.add(Order())
        session.commit()
    orders, messages = state_of(host)
    assert (orders, len(messages)) == (1, 1)


def test_in_a_mapper_event(host: Engine, producer: Producer) -> None:
    """Enqueueing for each row that is inserted, from the mapper's own event, works too."""

    def enqueue(_: Any, connection: Any, target: Order) -> None:
        producer.within(connection).enqueue({"order": target.id})

    event.listen(Order, "after_insert", enqueue)
    try:
        with Session(host) as session:
            session.add_all([Order(), Order()])
            session.commit()
    finally:
        event.remove(Order, "after_insert", enqueue)
    assert [len(state_of(host)[1]), state_of(host)[0]] == [2, 2]


def test_savepoint_of_a_session(host: Engine, producer: Producer, consumer: Consumer) -> None:
    """What is done inside a savepoint goes with it; what is outside stays."""
    first, second = producer.enqueue(1), producer.enqueue(2)
    held = consumer.dequeue_batch(2)
    with Session(host) as session:
        consumer.within(session).archive(held[0])
        with session.begin_nested() as savepoint:
            producer.within(session).enqueue(3)
            consumer.within(session).archive(held[1])
            savepoint.rollback()
        with session.begin_nested():
            producer.within(session).enqueue(4)
        session.commit()
    archived, message, held_still = state_of(host)[1]
    assert (archived[0], archived[1]) == ("archive", first.id)
    assert (held_still[2], message[1]) == (0, second.id)
    assert consumer.archive(second.id).id == second.id


def test_savepoint_of_a_connection(host: Engine, producer: Producer) -> None:
    """Savepoints of a Connection are the caller's in the same way."""
    with host.connect() as connection, connection.begin():
        with connection.begin_nested() as savepoint:
            producer.within(connection).enqueue(1)
            savepoint.rollback()
        with connection.begin_nested() as savepoint:
            kept = producer.within(connection).enqueue(2)
            assert savepoint.is_active
    assert [row[1] for row in state_of(host)[1]] == [kept.id]


def test_begin_blocks(host: Engine, producer: Producer) -> None:
    """Within `begin()` blocks, which end the transaction themselves."""
    with Session(host) as session:
        with session.begin():
            producer.within(session).enqueue(1)
        with contextlib.suppress(ZeroDivisionError), session.begin():
            producer.within(session).enqueue(2)
            raise ZeroDivisionError
    with host.begin() as connection:
        producer.within(connection).enqueue(3)
    assert len(state_of(host)[1]) == 2


def test_one_join_for_many_transactions(host: Engine, producer: Producer) -> None:
    """What `within` gave for a Session goes on in its next transaction."""
    with Session(host) as session:
        here = producer.within(session)
        here.enqueue(1)
        session.commit()
        here.enqueue(2)
        session.rollback()
        here.enqueue(3)
        session.commit()
    assert len(state_of(host)[1]) == 2


@pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 2}])
def test_streaming_connection(
    host: Engine, producer: Producer, consumer: Consumer, options: dict[str, Any]
) -> None:
    """A host that streams rows may enqueue for each of them on the same connection."""
    with host.begin() as connection:
        for _ in range(5):
            order(connection)
    with host.connect().execution_options(**options) as connection:
        for row in connection.execute(select(Order.id)):
            producer.within(connection).enqueue({"order": row.id})
        producer.within(connection).batch_enqueue([6, 7])
        message = consumer.within(connection).dequeue()
        assert message is not None
        consumer.within(connection).archive(message)
        assert Admin(connection).queue_metrics("q").pending == 6
        assert connection.get_execution_options().items() >= options.items()
        assert is_usable(connection)
        connection.commit()
    with Session(host) as session:
        session.connection(execution_options=dict(options))
        producer.within(session).enqueue({})
        session.commit()
    assert len(state_of(host)[1]) == 8


def test_streaming_engine(host: Engine) -> None:
    """A host's engine that streams everything is fine as a bind, and goes on streaming."""
    streaming = host.execution_options(stream_results=True)
    with Producer(streaming, "q") as producer, Consumer(streaming, "q") as consumer:
        producer.enqueue({})
        assert consumer.dequeue() is not None
    assert streaming.get_execution_options() == {"stream_results": True}


def test_queue_deleted_and_made_again(
    host: Engine, admin: Admin, consumer: Consumer, producer: Producer
) -> None:
    """A consumer whose row went with its queue says so, and registers again when that is back."""
    assert consumer.dequeue() is None
    admin.delete_queue("q")
    with host.connect() as connection:
        with pytest.raises(QueueNotFoundError):
            consumer.within(connection).dequeue()
        assert not connection.in_transaction() or is_usable(connection)
        connection.rollback()
        admin.create_queue("q")
        producer.enqueue({})
        assert consumer.within(connection).dequeue() is not None
        connection.rollback()
    assert consumer.dequeue() is not None


def test_registration_is_not_in_the_transaction(host: Engine, config: Config) -> None:
    """A worker that registers while the caller's transaction is open is there after a rollback."""
    with (
        Producer(config, "q") as producer,
        Consumer(host, "q") as consumer,
        host.connect() as connection,
    ):
        producer.within(connection).enqueue({})
        assert consumer.within(connection).dequeue() is not None
        assert ask(host, RUNNING) == 2
        connection.rollback()
        assert ask(host, RUNNING) == 2
        assert consumer.dequeue() is None
        producer.enqueue({})
        assert consumer.dequeue() is not None
        assert ask(host, WORKERS) == 2


def test_registration_is_not_in_the_transaction_of_a_batch(host: Engine, config: Config) -> None:
    """A large batch that fails as the first thing a producer does leaves the producer's row."""
    small = config.model_copy(update={"enqueue_chunk_rows": 1})
    with host.begin() as connection:
        rule = "ALTER TABLE pgqrs.pgqrs_messages ADD CHECK (payload <> '3')"
        connection.execute(text(rule))
    with Producer(small, "q") as producer:
        with pytest.raises(Exception, match="check constraint"):
            producer.batch_enqueue([1, 2, 3])
        message = producer.enqueue(1)
        query = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE id = :id"
        assert ask(host, query, id=message.producer_worker_id) == 1
