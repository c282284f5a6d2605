"""What gives connections: each kind of bind, what is shared, and what is never ours to end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import pytest
from host import Base, Order, Watch, is_usable, order, state_of, transaction
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from waiting import ask

from pgqrs import Admin, Config, Consumer, Producer
from pgqrs.models import Model

pytestmark = pytest.mark.matrix

WORKERS: Final = "SELECT count(*) FROM pgqrs.pgqrs_workers"
RUNNING: Final = f"{WORKERS} WHERE shutdown_at IS NULL"


@pytest.fixture
def host(engine: Engine, admin: Admin) -> Engine:
    """The host's engine on a database with its table and a queue."""
    Base.metadata.create_all(engine)
    admin.create_queue("q")
    return engine


Bind = Callable[[Engine, str, Admin], Any]
BINDS: Final[dict[str, Bind]] = {
    "Config": lambda _, dsn, __: Config.from_dsn(dsn),
    "DSN": lambda _, dsn, __: dsn,
    "URL": lambda host, *_: host.url,
    "Engine": lambda host, *_: host,
    "sessionmaker": lambda host, *_: sessionmaker(host),
    "sessionmaker with binds": lambda host, *_: sessionmaker(binds={Model: host}),
    "Admin": lambda _, __, admin: admin,
    "Admin on an engine": lambda host, *_: Admin(host),
    "engine of an Admin": lambda _, __, admin: admin.pool,
}


@pytest.mark.parametrize("bind", BINDS.values(), ids=BINDS.keys())
def test_each_call_is_its_own_transaction(host: Engine, dsn: str, admin: Admin, bind: Bind) -> None:
    """On what gives connections, each call is done and there for everybody when it returns."""
    given = bind(host, dsn, admin)
    with Producer(given, "q") as producer, Consumer(given, "q") as consumer:
        producer.batch_enqueue([1, 2])
        assert admin.queue_metrics("q").pending == 2
        message = consumer.dequeue()
        assert message is not None
        assert admin.queue_metrics("q").locked == 1
        consumer.archive(message)
        assert admin.queue_metrics("q").archived == 1
        with Producer(producer, "q") as other:
            other.enqueue(3)
        assert admin.queue_metrics("q").pending == 2
    assert ask(host, RUNNING) == 0
    assert admin.list_queues() != []


JOINS: Final[dict[str, Callable[[Engine], Any]]] = {
    "Session": Session,
    "scoped_session": lambda host: scoped_session(sessionmaker(host)),
    "Connection": lambda host: host.connect(),
    "Session on a Connection": lambda host: Session(host.connect()),
}


@pytest.mark.parametrize("join", JOINS.values(), ids=JOINS.keys())
def test_transaction_as_bind(host: Engine, join: Callable[[Engine], Any]) -> None:
    """On a Session or Connection every call is within it: begun by it, ended by the caller."""
    joined = join(host)
    empty = state_of(host)
    for end in (joined.rollback, joined.commit):
        with Admin(joined) as admin, Producer(joined, "q") as producer:
            admin.create_queue("another", exist_ok=True)
            message = producer.enqueue({})
            assert message.producer_worker_id is None
            assert producer.worker_id is None
            with Consumer(joined, "q") as consumer:
                leased = consumer.dequeue()
                assert leased is not None
                assert leased.id == message.id
                consumer.archive(leased)
        assert state_of(host) == empty
        assert is_usable(joined)
        end()
    assert state_of(host) != empty
    joined.close()
    if isinstance(joined, Session) and not isinstance(joined.bind, Engine):
        joined.bind.close()  # type: ignore[union-attr]


def test_producer_without_an_engine_leaves_no_row(host: Engine) -> None:
    """A producer that has only a transaction registers nothing; its messages name no producer."""
    with host.begin() as connection, Producer(connection, "q") as producer:
        producer.enqueue({})
    assert ask(host, WORKERS) == 0
    assert ask(host, "SELECT count(producer_worker_id) FROM pgqrs.pgqrs_messages") == 0


def test_consumer_without_an_engine_lives_with_the_transaction(host: Engine) -> None:
    """The row of a consumer that has only a transaction is there if that commits."""
    with Producer(host, "q") as producer:
        producer.batch_enqueue([1, 2])
    before = ask(host, WORKERS)
    with Session(host) as session:
        consumer = Consumer(session, "q")
        assert consumer.dequeue() is not None
        assert ask(host, WORKERS) == before
        session.rollback()
        assert ask(host, WORKERS) == before
        message = consumer.dequeue()
        assert message is not None
        assert message.read_ct == 1
        session.commit()
        assert ask(host, WORKERS) == before + 1
        consumer.archive(message)
        session.commit()
    assert ask(host, "SELECT count(*) FROM pgqrs.pgqrs_archive") == 1


def test_sessions_do_not_meet(host: Engine, config: Config) -> None:
    """Each transaction is its own: what one does is not in the other."""
    with (
        Producer(config, "q") as producer,
        Session(host) as one,
        Session(host) as other,
    ):
        producer.within(one).enqueue(1)
        kept = producer.within(other).enqueue(2)
        one.rollback()
        other.commit()
    assert [row.id for row in state_of(host)[1]] == [kept.id]


def test_session_with_several_binds(host: Engine, admin: Admin, empty_url: URL) -> None:
    """Of a Session with a bind for each model, the bind of pgqrs's models is used."""
    elsewhere = create_engine(empty_url)
    Base.metadata.create_all(elsewhere)
    binds: list[dict[str, Any]] = [
        {"binds": {Base: elsewhere, Model: host}},
        {"bind": host, "binds": {Order: elsewhere}},
        {"bind": elsewhere, "binds": {Model: host}},
    ]
    with Producer(admin, "q") as producer:
        for given in binds:
            with Session(**given) as session:
                session.add(Order())
                producer.within(session).enqueue({})
                session.commit()
    assert admin.queue_metrics("q").pending == 3
    assert ask(elsewhere, "SELECT count(*) FROM orders") == 3
    assert state_of(host)[0] == 0
    elsewhere.dispose()


def fail(_: Any) -> NoReturn:
    raise AssertionError("the host's JSON hooks are for the host's columns")


@pytest.mark.parametrize(
    "hooks",
    [
        {"json_serializer": fail, "json_deserializer": fail},
        {"json_serializer": lambda _: '"theirs"', "json_deserializer": lambda _: "theirs"},
        {"json_serializer": None, "json_deserializer": json.loads},
    ],
)
def test_hosts_json_hooks(host: Engine, hooks: dict[str, Any]) -> None:
    """Payloads and results are what they are, whatever hooks for JSON the host's engine has."""
    engine = create_engine(host.url, **hooks)
    payload = {"a": [1, "é", None]}
    with Producer(engine, "q") as producer, Consumer(engine, "q") as consumer:
        producer.enqueue(payload)
        producer.batch_enqueue([payload, payload])
        for kind in ("session", "connection"):
            with transaction(kind, engine) as joined:
                message = consumer.within(joined).dequeue()
                assert message is not None
                assert message.payload == payload
                archived = consumer.within(joined).archive(message, output=payload)
                assert (archived.payload, archived.output) == (payload, payload)
                joined.commit()
        message = consumer.dequeue()
        assert message is not None
        assert consumer.archive(message, output=payload).output == payload
    engine.dispose()


def test_asyncio_objects_name_the_asyncio_class(url: URL, config: Config) -> None:
    """What is for asyncio is refused at once, with the name of the class that takes it."""
    engine = create_async_engine(url)
    objects = [
        engine,
        engine.sync_engine,
        AsyncSession(engine),
        AsyncConnection(engine),
        async_sessionmaker(engine),
        async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1),
        sessionmaker(engine.sync_engine),
        sessionmaker(engine, class_=AsyncSession),  # type: ignore[call-overload]
    ]
    for given in objects:
        for kind in (lambda bind: Producer(bind, "q"), lambda bind: Consumer(bind, "q"), Admin):
            with pytest.raises(TypeError, match=r"asyncio: use .*AsyncProducer"):
                kind(given)
    with Producer(config, "q") as producer:
        for given in objects[2:4]:
            with pytest.raises(TypeError, match="AsyncProducer"):
                producer.within(given)


@pytest.mark.parametrize("nonsense", [None, 5, object(), {"dsn": "x"}, Config])
def test_nonsense_is_a_type_error(nonsense: Any) -> None:
    """What gives no connection is a TypeError that lists what does."""
    with pytest.raises(TypeError, match="pass a Config, DSN, URL, Engine, sessionmaker"):
        Producer(nonsense, "q")


def test_within_takes_transactions_only(host: Engine, config: Config) -> None:
    """An engine is no transaction, nor is anything else that only gives connections."""
    with Producer(config, "q") as producer:
        for given in (host, config, sessionmaker(host), "postgresql://h/d"):
            with pytest.raises(TypeError):
                producer.within(given)  # type: ignore[arg-type]


def test_engine_of_a_config_is_shared_and_disposed_with_its_last_user(
    host: Engine, dsn: str
) -> None:
    """Objects of equal configurations have one engine, disposed when the last of them closes."""
    admin = Admin(Config.from_dsn(dsn, max_attempts=6))
    producer = Producer(Config.from_dsn(dsn, max_attempts=6), "q")
    consumer = Consumer(admin, "q")
    engine = admin.pool
    assert producer.binding.engine is engine  # type: ignore[attr-defined]
    assert consumer.binding.engine is engine  # type: ignore[attr-defined]
    disposed: list[Engine] = []
    event.listen(engine, "engine_disposed", disposed.append)
    producer.enqueue({})
    for one in (admin, producer):
        one.close()
        one.close()
    assert disposed == []
    assert consumer.dequeue() is not None
    consumer.close()
    assert disposed == [engine]
    with Admin(Config.from_dsn(dsn, max_attempts=6)) as again:
        assert again.pool is not engine
        assert again.queue_metrics("q").pending == 1
    assert ask(host, "SELECT 1") == 1


def test_foreign_engine_is_never_disposed(host: Engine) -> None:
    """Closing whatever is bound to a host's engine leaves the engine to the host."""
    watch = Watch(host)
    admin = Admin(host)
    with Producer(host, "q") as producer, Consumer(admin, "q") as consumer:
        producer.enqueue({})
        assert consumer.dequeue() is not None
    with Producer(sessionmaker(host), "q") as producer:
        producer.enqueue({})
    admin.close()
    assert "engine_disposed" not in watch.seen
    with host.begin() as connection:
        order(connection)
        assert connection.scalar(text("SELECT count(*) FROM orders")) == 1


@pytest.fixture
def crowded(host: Engine) -> Iterator[Engine]:
    """An engine with a single connection."""
    engine = create_engine(host.url, pool_size=1, max_overflow=0, pool_timeout=1)
    yield engine
    engine.dispose()


def test_caller_may_hold_the_only_connection(crowded: Engine) -> None:
    """Within a transaction that has the pool's only connection, nothing waits for another."""
    with (
        Producer(crowded, "q") as producer,
        Consumer(crowded, "q") as consumer,
        transaction("session", crowded) as session,
    ):
        producer.within(session).enqueue({})
        assert consumer.within(session).dequeue() is not None
        session.commit()
        session.close()
