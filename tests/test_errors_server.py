"""Servers that are away, refuse, restart or crash, between calls and during them."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from waiting import ask, crowd, until, wait_for

from pgqrs import (
    Admin,
    Config,
    Consumer,
    DatabaseError,
    OutcomeUnknownError,
    PgqrsError,
    Producer,
    UnavailableError,
    deadline,
    engines,
)
from pgqrs.aio import AsyncProducer
from pgqrs.embedded import EmbeddedPostgres

pytestmark = pytest.mark.matrix

Mode = Literal["fast", "immediate"]
MESSAGES: Final = "SELECT count(*) FROM pgqrs.pgqrs_messages"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server that may be restarted, with roles that may log in with a password, or not."""
    settings = {"max_connections": 40, "synchronous_commit": "on", "full_page_writes": "on"}
    with EmbeddedPostgres(durable=False, settings=settings) as server:
        access = server.data_dir / "pg_hba.conf"
        access.write_text(
            "local all guest scram-sha-256\nlocal all outsider reject\nlocal all all trust\n"
        )
        engine = create_engine(make_url(server.dsn()).set(drivername="postgresql+psycopg"))
        with engine.begin() as connection:
            connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'right' CONNECTION LIMIT 1"))
            connection.execute(text("CREATE ROLE outsider LOGIN"))
            connection.execute(text("SELECT pg_reload_conf()"))
        engine.dispose()
        with Admin(Config.from_dsn(server.dsn())) as admin:
            admin.install()
            admin.create_queue("q")
        yield server


@pytest.fixture
def here(server: EmbeddedPostgres) -> Config:
    """A configuration for that server; its queue is empty."""
    config = Config.from_dsn(server.dsn())
    with Admin(config) as admin:
        admin.purge_queue("q")
    return config


@pytest.fixture
def host(here: Config) -> Iterator[Engine]:
    """An engine of the test's own on that server."""
    engine = create_engine(here.url, pool_pre_ping=True)
    yield engine
    engine.dispose()


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def failure(config: Config) -> DatabaseError:
    """Give the error of a first call."""
    with Admin(config) as admin, pytest.raises(DatabaseError) as caught:
        admin.list_queues()
    assert isinstance(caught.value.__cause__, DBAPIError)
    assert "s3cret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "place",
    [
        {"host": "127.0.0.1", "port": 1, "query": {}},
        {"host": "password.invalid", "port": 5432, "query": {}},
        {"query": {"host": "/no/such/directory"}},
    ],
)
def test_nobody_there(here: Config, place: dict[str, Any]) -> None:
    """Where no server answers, another try may help."""
    url = here.url.set(password="s3cret", **place)
    error = failure(Config.from_dsn(url.render_as_string(hide_password=False)))
    assert type(error) is UnavailableError
    assert error.retryable
    assert "the server cannot be reached" in str(error)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"username": "guest", "password": "s3cret"}, "password authentication failed"),
        ({"username": "guest"}, "password"),
        ({"username": "outsider"}, "pg_hba.conf"),
        ({"username": "nobody_known"}, "does not exist"),
        ({"database": "nothing"}, "does not exist"),
    ],
)
def test_refused_login(here: Config, changed: dict[str, Any], reason: str) -> None:
    """Where the server refuses the login, trying again does not help, and the error says why."""
    url = here.url.set(**changed)
    error = failure(Config.from_dsn(url.render_as_string(hide_password=False)))
    assert type(error) is DatabaseError
    assert not error.retryable
    assert reason in str(error)


def test_too_many_connections(here: Config) -> None:
    """Where the server has no connection left, another try may help."""
    url = here.url.set(username="guest", password="right")
    config = Config.from_dsn(url.render_as_string(hide_password=False))
    engine = create_engine(url)
    with engine.connect():
        error = failure(config)
    engine.dispose()
    assert type(error) is UnavailableError
    assert "too many connections" in str(error)


def test_frozen_server(server: EmbeddedPostgres, here: Config) -> None:
    """A server that does not answer is given up on, and used again when it does."""
    config = here.model_copy(update={"connection_timeout_seconds": 0.1})
    with Producer(config, "q") as producer:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(UnavailableError):
                producer.enqueue({})
        finally:
            os.kill(server.pid, signal.SIGCONT)
        producer.enqueue({})


@pytest.fixture
def impatient(here: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration whose statements are given up soon, by server and client alike."""
    for module in (engines, deadline):
        monkeypatch.setattr(module, "GRACE", 0.2)
    return here.model_copy(update={"query_timeout_seconds": 0.3})


@contextmanager
def hanging(host: Engine) -> Iterator[None]:
    """Have the server's processes of pgqrs's connections neither work nor end."""
    ours = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'pgqrs'"
    pids = ask(host, ours)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_connection_that_hangs(impatient: Config, host: Engine) -> None:
    """A server that took a statement and never answers is not waited for, and is asked anew."""
    with Producer(impatient, "q") as producer, Consumer(impatient, "q") as consumer:
        producer.enqueue(1)
        with hanging(host), pytest.raises(OutcomeUnknownError):
            producer.enqueue(2)
        first = consumer.dequeue()
        assert first is not None
        with hanging(host), pytest.raises(UnavailableError):
            consumer.dequeue()
        consumer.heartbeat()
        with hanging(host):  # an acknowledgement is sent again, on a new connection
            assert consumer.archive(first).id == first.id


def test_a_connection_that_hangs_under_asyncio(impatient: Config, host: Engine) -> None:
    """The same there, and the event loop goes on meanwhile."""

    async def life() -> int:
        turns = 0
        async with AsyncProducer(impatient, "q") as producer:
            await producer.enqueue(1)
            with hanging(host):
                waiting = asyncio.create_task(producer.enqueue(2))
                while not waiting.done():
                    await asyncio.sleep(0.01)
                    turns += 1
                with pytest.raises(OutcomeUnknownError):
                    await waiting
            await producer.enqueue(3)
        return turns

    assert asyncio.run(life()) > 5


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_between_calls(server: EmbeddedPostgres, here: Config, mode: Mode) -> None:
    """A restart while connections are idle goes unnoticed, in whatever is called next."""
    with Producer(here, "q") as producer, Consumer(here, "q") as consumer, Admin(here) as admin:
        first = producer.enqueue(1)
        server.restart(mode)
        producer.enqueue(2)
        server.restart(mode)
        message = consumer.dequeue()
        assert message is not None
        assert message.id == first.id
        server.restart(mode)
        consumer.archive(message)
        server.restart(mode)
        producer.batch_enqueue([3, 4])
        server.restart(mode)
        assert admin.queue_metrics("q").pending == 3


def test_every_idle_connection_is_replaced(here: Config, host: Engine) -> None:
    """Of several idle connections that the server closed, none is handed out."""
    with Producer(here, "q") as producer:
        barrier = threading.Barrier(4)

        def enqueue() -> None:
            with producer.binding.engine.connect():  # type: ignore[attr-defined]
                barrier.wait()
            producer.enqueue({})

        for _ in range(2):
            with crowd() as start:
                start(4, enqueue)
            ended = ask(
                host,
                "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                " WHERE application_name = 'pgqrs'",
            )
            assert ended == 4
        producer.enqueue({})
    assert ask(host, MESSAGES) == 9


@pytest.fixture
def restart_during(server: EmbeddedPostgres, host: Engine) -> Iterator[Callable[..., Any]]:
    """Restart the server in the middle of a call; gives what the call gave, or its error.

    The first statement that changes a message falls asleep; what is sent again does not.
    """

    def restarted(mode: Mode, act: Callable[[], Any]) -> Any:
        given: list[Any] = []

        def run() -> None:
            try:
                given.append(act())
            except PgqrsError as error:
                given.append(error)

        execute(host, "INSERT INTO naps VALUES (1)")
        with crowd() as start:
            start(1, run)
            wait_for(host, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
            execute(host, "DELETE FROM naps")
            server.restart(mode)
        return given[0]

    execute(host, "CREATE TABLE naps (nap int)")
    execute(
        host,
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF EXISTS (SELECT FROM naps) THEN PERFORM pg_sleep(30); END IF; RETURN NULL; END $$",
    )
    execute(
        host,
        "CREATE TRIGGER nap BEFORE INSERT OR UPDATE OR DELETE ON pgqrs.pgqrs_messages"
        " EXECUTE FUNCTION nap()",
    )
    yield restarted
    execute(host, "DROP FUNCTION nap() CASCADE; DROP TABLE naps")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_during_an_enqueue(
    restart_during: Callable[..., Any], here: Config, host: Engine, mode: Mode
) -> None:
    """An enqueue that the server's end cut off is in doubt; the next one works."""
    with Producer(here, "q") as producer:
        producer.heartbeat()
        error = restart_during(mode, lambda: producer.enqueue(1))
        assert type(error) is OutcomeUnknownError
        producer.enqueue(2)
    assert ask(host, MESSAGES) == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_during_a_lease(
    restart_during: Callable[..., Any], here: Config, mode: Mode
) -> None:
    """A lease that the server's end cut off may be asked for again."""
    with Producer(here, "q") as producer, Consumer(here, "q") as consumer:
        producer.enqueue(1)
        consumer.heartbeat()
        error = restart_during(mode, consumer.dequeue)
        assert type(error) is UnavailableError
        assert consumer.dequeue() is not None


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("act", ["archive", "delete", "release"])
def test_restart_during_an_acknowledgement(
    restart_during: Callable[..., Any], here: Config, host: Engine, mode: Mode, act: str
) -> None:
    """An acknowledgement outlives a restart: it is sent again when the server is back."""
    with Producer(here, "q") as producer, Consumer(here, "q") as consumer:
        producer.enqueue(1)
        message = consumer.dequeue()
        given = restart_during(mode, lambda: getattr(consumer, act)(message))
        assert not isinstance(given, PgqrsError)
    assert ask(host, MESSAGES) == (act == "release")


def test_restarts_under_load(server: EmbeddedPostgres, here: Config, host: Engine) -> None:
    """However a restart meets a call, the error is ours, and what is said to be there is there."""
    done: list[int] = []
    doubtful: list[int] = []
    others: list[Exception] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                done.append(producer.enqueue({}).id)
            except OutcomeUnknownError:
                doubtful.append(0)
            except UnavailableError:
                pass
            except Exception as error:  # noqa: BLE001 - to be shown by the test
                others.append(error)
                return

    with Producer(here, "q") as producer, crowd() as start:
        start(4, work)
        for mode in ("fast", "immediate", "fast"):
            before = len(done)
            until(lambda: len(done) > before + 50)  # noqa: B023
            server.restart(mode)
        over.set()
    assert others == []
    with host.connect() as connection:
        ids = set(connection.scalars(text("SELECT id FROM pgqrs.pgqrs_messages")))
    assert set(done) <= ids
    assert len(ids) <= len(done) + len(doubtful)


def test_stopped_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """A server that was stopped for good is not there any more, and closing only says so."""
    with EmbeddedPostgres(durable=False) as server:
        config = Config.from_dsn(server.dsn())
        admin, producer, consumer = Admin(config), Producer(config, "q"), Consumer(config, "q")
        admin.install()
        admin.create_queue("q")
        producer.enqueue({})
        assert consumer.dequeue() is not None
    with pytest.raises(UnavailableError, match="cannot be reached"):
        producer.enqueue({})
    for worker in (producer, consumer, producer):
        worker.close()
    assert caplog.text.count("cannot be reached") == 3, "the consumer holds a message besides"
    admin.close()
