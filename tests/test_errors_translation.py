"""How what PostgreSQL says of a statement becomes one of pgqrs's errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from waiting import BLOCKED, ask, crowd, locked, wait_for

from pgqrs import (
    Admin,
    Config,
    Consumer,
    DatabaseError,
    Json,
    OutcomeUnknownError,
    PayloadError,
    PgqrsError,
    Producer,
    QueryTimeoutError,
    QueueExistsError,
    QueueNotEmptyError,
    QueueNotFoundError,
    SchemaMissingError,
    SchemaVersionError,
    UnavailableError,
)
from pgqrs.call import call

pytestmark = pytest.mark.matrix

MESSAGES: Final = "SELECT count(*) FROM pgqrs.pgqrs_messages"
SECRET: Final = {"card": "s3cret"}
BLOCKED_HERE: Final = (
    " FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
CANCEL: Final = f"SELECT bool_or(pg_cancel_backend(pid)) {BLOCKED_HERE}"
TERMINATE: Final = f"SELECT bool_or(pg_terminate_backend(pid)) {BLOCKED_HERE}"


@pytest.fixture
def producer(config: Config, admin: Admin) -> Iterator[Producer]:
    admin.create_queue("q")
    with Producer(config, "q") as producer:
        producer.heartbeat()
        yield producer


def expect(
    kind: type[PgqrsError], act: Callable[[], Any], sqlstate: str | None = None
) -> PgqrsError:
    """Do something that fails with exactly this kind; gives the error."""
    with pytest.raises(kind) as caught:
        act()
    error = caught.value
    assert type(error) is kind
    assert "s3cret" not in str(error)
    assert str(error)[0].islower()
    if sqlstate is not None:
        assert error.sqlstate == sqlstate  # type: ignore[attr-defined]
        assert isinstance(error.__cause__, DBAPIError)
    return error


def test_unknown_queue(config: Config, admin: Admin) -> None:
    """Whoever names a queue that is not there is told so, by its name."""
    with Producer(config, "none") as producer, Consumer(config, "none") as consumer:
        acts: list[Callable[[], Any]] = [
            lambda: producer.enqueue(SECRET),
            lambda: producer.batch_enqueue([SECRET]),
            producer.heartbeat,
            consumer.dequeue,
            lambda: admin.get_queue("none"),
            lambda: admin.queue_metrics("none"),
            lambda: admin.purge_queue("none"),
            lambda: admin.delete_queue("none"),
            lambda: admin.pause_queue("none"),
        ]
        for act in acts:
            assert expect(QueueNotFoundError, act).queue == "none"  # type: ignore[attr-defined]


def test_queue_that_was_deleted(producer: Producer, config: Config, admin: Admin) -> None:
    """A queue that is deleted while it is used is gone at once; made again, it goes on."""
    with Consumer(config, "q") as consumer:
        assert consumer.dequeue() is None
        admin.delete_queue("q")
        expect(QueueNotFoundError, lambda: producer.enqueue(SECRET))
        expect(QueueNotFoundError, consumer.dequeue)
        admin.create_queue("q")
        producer.enqueue({})
        assert consumer.dequeue() is not None


def test_duplicate_and_full_queue(producer: Producer, admin: Admin) -> None:
    """A queue there already, and one that is not empty, are conflicts with the counts."""
    assert expect(QueueExistsError, lambda: admin.create_queue("q")).queue == "q"  # type: ignore[attr-defined]
    producer.batch_enqueue([SECRET] * 3)
    error = expect(QueueNotEmptyError, lambda: admin.delete_queue("q"))
    assert (error.messages, error.archived) == (3, 0)  # type: ignore[attr-defined]


def test_missing_schema(empty_url: URL, dsn: str) -> None:
    """Where the tables are not there, the error names the schema and the command to run."""
    plain = empty_url.set(drivername="postgresql").render_as_string(hide_password=False)
    for config in (Config.from_dsn(plain), Config.from_dsn(dsn, schema="other")):
        with Admin(config) as admin, Producer(config, "q") as producer:
            for act in (admin.list_queues, lambda: producer.enqueue(SECRET)):
                error = expect(SchemaMissingError, act)
                assert error.schema == config.schema_  # type: ignore[attr-defined]
                assert "pgqrs install" in str(error)


def test_missing_column(producer: Producer, engine: Engine) -> None:
    """Where a column is missing, the tables are of another version."""
    with engine.begin() as connection:
        rename = "ALTER TABLE pgqrs.pgqrs_messages RENAME COLUMN max_attempts TO attempts"
        connection.execute(text(rename))
    error = expect(SchemaVersionError, lambda: producer.enqueue(SECRET))
    assert "max_attempts" in str(error)


def test_statement_timeout_and_cancel(producer: Producer, engine: Engine) -> None:
    """A statement that is cancelled, by time or by hand, was not done."""
    with locked(engine), engine.connect() as host:
        host.execute(text("SET LOCAL statement_timeout = 50"))
        expect(QueryTimeoutError, lambda: producer.within(host).enqueue(SECRET), "57014")
    failed: list[PgqrsError] = []

    def enqueue() -> None:
        failed.append(expect(QueryTimeoutError, lambda: producer.enqueue(SECRET), "57014"))

    with crowd() as start, locked(engine):
        start(1, enqueue)
        wait_for(engine, BLOCKED)
        ask(engine, CANCEL)
    assert len(failed) == 1
    assert ask(engine, MESSAGES) == 0


def test_lock_timeout(producer: Producer, engine: Engine) -> None:
    """A lock that does not come in time is worth another try."""
    with locked(engine), engine.connect() as host:
        host.execute(text("SET LOCAL lock_timeout = 50"))
        error = expect(UnavailableError, lambda: producer.within(host).enqueue(SECRET), "55P03")
        assert error.retryable


def test_serialization_failure(producer: Producer, engine: Engine) -> None:
    """A transaction that cannot be serialized is worth another try, from its beginning."""
    message = producer.enqueue(SECRET)
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as host:
        host.execute(text("SELECT 1 FROM pgqrs.pgqrs_messages"))
        producer.extend_visibility(message, 5)
        late = producer.within(host)
        error = expect(UnavailableError, lambda: late.extend_visibility(message, 9), "40001")
        assert error.retryable


def test_deadlock(producer: Producer, engine: Engine, admin: Admin) -> None:
    """The transaction that a deadlock ends is worth another try."""

    def lock(host: Connection, table: str) -> None:
        host.execute(text("SET LOCAL deadlock_timeout = 10"))
        host.execute(text(f"LOCK TABLE pgqrs.{table} IN ACCESS EXCLUSIVE MODE"))

    ended: list[PgqrsError] = []

    def enqueue(host: Connection) -> None:
        try:
            producer.within(host).enqueue(SECRET)
        except PgqrsError as error:
            ended.append(error)
        finally:
            host.rollback()

    with engine.connect() as one, engine.connect() as other, crowd() as start:
        lock(one, "pgqrs_queues")
        lock(other, "pgqrs_messages")
        start(1, lambda: enqueue(one))
        wait_for(engine, BLOCKED)
        try:
            Admin(other).list_queues()
        except PgqrsError as error:
            ended.append(error)
        other.rollback()
    [error] = ended
    assert type(error) is UnavailableError
    assert error.sqlstate == "40P01"
    assert error.retryable
    assert admin.queue_metrics("q").pending in {0, 1}


def test_terminated_while_it_runs(producer: Producer, engine: Engine) -> None:
    """A session that is ended while its statement runs leaves an enqueue in doubt."""
    failed: list[PgqrsError] = []

    def enqueue() -> None:
        failed.append(expect(OutcomeUnknownError, lambda: producer.enqueue(SECRET), "57P01"))

    with crowd() as start, locked(engine):
        start(1, enqueue)
        wait_for(engine, BLOCKED)
        ask(engine, TERMINATE)
    assert len(failed) == 1
    producer.enqueue({})


def test_terminated_while_leasing_and_archiving(
    producer: Producer, engine: Engine, config: Config
) -> None:
    """A lease that is ended may be asked for again; an archive asks again by itself."""
    producer.enqueue(SECRET)
    with Consumer(config, "q") as consumer:
        consumer.heartbeat()
        failed: list[PgqrsError] = []
        with crowd() as start, locked(engine):
            start(1, lambda: failed.append(expect(UnavailableError, consumer.dequeue, "57P01")))
            wait_for(engine, BLOCKED)
            ask(engine, TERMINATE)
        assert failed[0].retryable
        message = consumer.dequeue()
        assert message is not None
        archived: list[Any] = []
        with crowd() as start, locked(engine):
            start(1, lambda: archived.append(consumer.archive(message)))
            wait_for(engine, BLOCKED)
            ask(engine, TERMINATE)
            wait_for(engine, BLOCKED)
        assert [one.id for one in archived] == [message.id]


def test_a_transaction_whose_connection_was_lost(producer: Producer, engine: Engine) -> None:
    """Whoever goes on in it is told each time that it is gone; the next transaction works."""
    with engine.connect() as host:
        mine = host.scalar(text("SELECT pg_backend_pid()"))
        ask(engine, f"SELECT pg_terminate_backend({mine}, 5000)")
        writing = producer.within(host)
        said = [str(expect(UnavailableError, lambda: writing.enqueue(SECRET))) for _ in range(3)]
        assert ["begin anew" in each for each in said] == [False, True, True]
        host.rollback()
        producer.within(host).enqueue({})
        host.commit()
    assert ask(engine, MESSAGES) == 1


def test_anything_else(producer: Producer, engine: Engine) -> None:
    """What has no class of its own is a DatabaseError with its SQLSTATE, not worth a try."""
    with engine.begin() as host:
        host.execute(text("SET TRANSACTION READ ONLY"))
        error = expect(DatabaseError, lambda: producer.within(host).enqueue(SECRET), "25006")
        assert not error.retryable
        expect(DatabaseError, lambda: producer.within(host).enqueue(SECRET), "25P02")


@pytest.mark.parametrize("chunk", [2, 1000])
def test_batch_is_all_or_nothing(producer: Producer, engine: Engine, chunk: int) -> None:
    """Where one message of a batch fails in the database, none is there, in many statements too."""
    config = producer.binding.config.model_copy(update={"enqueue_chunk_rows": chunk})
    with engine.begin() as connection:
        rule = (
            "ALTER TABLE pgqrs.pgqrs_messages ADD CONSTRAINT rule CHECK (payload <> '\"s3cret\"')"
        )
        connection.execute(text(rule))
    with Producer(config, "q") as batches:
        payloads = [*range(5), Json("s3cret"), 6]
        error = expect(DatabaseError, lambda: batches.batch_enqueue(payloads), "23514")
        assert "rule" in str(error)
        assert ask(engine, MESSAGES) == 0
        assert len(batches.batch_enqueue(range(5))) == 5


def test_payload_that_only_postgresql_refuses(producer: Producer, engine: Engine) -> None:
    """Should PostgreSQL refuse the JSON after all, that is a PayloadError, not a riddle."""
    with engine.connect() as host:
        statement = text("SELECT CAST(:json AS jsonb)")
        with pytest.raises(PayloadError, match="cannot store"):
            producer.within(host).binding.run(
                call(lambda c: c.execute(statement, {"json": '"\\u0000"'}))
            )


@pytest.mark.parametrize("registered", [False, True])
def test_a_queue_that_is_deleted_while_an_enqueue_waits(
    admin: Admin,
    engine: Engine,
    config: Config,
    registered: bool,  # noqa: FBT001
) -> None:
    """It is gone when the deletion commits: not a matter of foreign keys."""
    info = admin.create_queue("doomed")
    caught: list[Exception] = []
    with Producer(config, "doomed") as producer:
        if registered:
            producer.heartbeat()

        def enqueue() -> None:
            try:
                producer.enqueue({})
            except PgqrsError as error:
                caught.append(error)

        with crowd() as start, engine.begin() as connection:
            for table in ("pgqrs_workers WHERE queue_id", "pgqrs_queues WHERE id"):
                connection.execute(text(f"DELETE FROM pgqrs.{table} = :id"), {"id": info.id})
            start(1, enqueue)
            wait_for(engine, BLOCKED)
    assert [type(error) for error in caught] == [QueueNotFoundError]


def queue_of(config: Config) -> Callable[[str], Any]:
    def enqueue(name: str) -> Any:
        with Producer(config, name) as producer:
            return producer.enqueue(1)

    return enqueue


@pytest.mark.parametrize("name", ["a\ud800", "a\0"])
def test_text_that_cannot_be_sent(config: Config, name: str) -> None:
    """Neither the driver's error nor the statement is seen, whichever place it is given to."""
    with Admin(config) as admin:
        for ask in (admin.get_queue, admin.purge_queue, queue_of(config)):
            with pytest.raises((ValueError, DatabaseError), match="cannot") as caught:
                ask(name)
            assert not isinstance(caught.value, UnicodeError | SQLAlchemyError)
            assert "SELECT" not in str(caught.value)
