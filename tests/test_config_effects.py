"""What each setting does: one that exists has a test here that would miss it."""

from __future__ import annotations

import importlib
import socket
import time
from typing import Any, Final

import pytest
from settings import SHOWN, shows
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from waiting import BLOCKED, crowd, locked, wait_for

from pgqrs import (
    Admin,
    Config,
    Consumer,
    PayloadError,
    Producer,
    QueryTimeoutError,
    UnavailableError,
    WorkerExistsError,
)

OURS: Final = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'pgqrs'"
)
BEAT: Final = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE heartbeat_at > started_at"


@shows("dsn", "host", "port", "username", "password", "database")
def test_database_is_reached(url: URL, admin: Admin) -> None:
    """A DSN and its parts lead to the same database."""
    admin.create_queue("q")
    parts = Config.from_dsn(
        url.set(username="nobody", database="nothing").render_as_string(hide_password=False),
        username=url.username,
        database=url.database,
    )
    with Admin(parts) as other:
        assert [queue.queue_name for queue in other.list_queues()] == ["q"]


@shows("schema_")
def test_schema(dsn: str, admin: Admin) -> None:
    """The tables are in the schema that is named, whose name is quoted where it needs to be."""
    config = Config.from_dsn(dsn, schema="Select")
    with Admin(config) as there, Producer(config, "q") as producer, Consumer(config, "q") as own:
        there.install()
        there.create_queue("q")
        producer.enqueue({})
        assert own.dequeue() is not None
        assert admin.list_queues() == []
        with admin.pool.connect() as connection:
            assert connection.scalar(text('SELECT count(*) FROM "Select".pgqrs_messages')) == 1


@shows("connection_pool_size", "max_connections")
def test_connections_are_capped(dsn: str, engine: Engine) -> None:
    """Threads open no more than `max_connections` less two; few stay open."""
    config = Config.from_dsn(dsn, max_connections=5, connection_pool_size=2)
    with Admin(config) as admin, Producer(config, "q") as producer:
        admin.create_queue("q")
        producer.enqueue(0)
        with crowd() as start, locked(engine):
            running = start(8, lambda: producer.enqueue(1))
            wait_for(engine, BLOCKED, 3)
            with engine.connect() as connection:
                assert connection.scalar(text(OURS)) == 3
            assert all(thread.is_alive() for thread in running)
        assert admin.queue_metrics("q").pending == 9
        wait_for(engine, OURS, 2)


@shows("max_connections")
def test_heartbeat_has_the_last_connection(dsn: str, engine: Engine) -> None:
    """With every pooled connection busy the heartbeat has one more, and that is the cap."""
    config = Config.from_dsn(dsn, max_connections=3, heartbeat_interval_seconds=0.02)
    with Admin(config) as admin, Producer(config, "q") as producer, Consumer(config, "q") as own:
        admin.create_queue("q")
        producer.enqueue(0)
        own.dequeue()
        with crowd() as start, locked(engine):
            start(3, lambda: producer.enqueue(1))
            wait_for(engine, BLOCKED, 1)
            wait_for(engine, OURS, 2)
        assert admin.queue_metrics("q").pending == 3


@shows("connection_timeout_seconds")
def test_connecting_takes_only_so_long() -> None:
    """A server that accepts and says nothing is given up on; two seconds is libpq's least."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        dsn = f"postgresql://u:s3cret@127.0.0.1:{hole.getsockname()[1]}/d"
        with Admin(Config.from_dsn(dsn, connection_timeout_seconds=0.1)) as admin:
            begun = time.monotonic()
            with pytest.raises(UnavailableError, match="cannot be reached"):
                admin.list_queues()
            assert 1 < time.monotonic() - begun < 10


@shows("connection_timeout_seconds")
def test_pool_is_waited_for_only_so_long(dsn: str, engine: Engine) -> None:
    """Where every connection is in use, the error says so after the time that was set."""
    config = Config.from_dsn(dsn, max_connections=3, connection_timeout_seconds=0.1)
    with Admin(config) as admin, Producer(config, "q") as producer:
        admin.create_queue("q")
        producer.enqueue(0)
        with crowd() as start, locked(engine):
            start(1, lambda: producer.enqueue(1))
            wait_for(engine, BLOCKED, 1)
            with pytest.raises(UnavailableError, match="raise max_connections") as caught:
                producer.enqueue(2)
            assert caught.value.retryable


@shows("query_timeout_seconds")
def test_query_timeout(dsn: str, engine: Engine) -> None:
    """A statement that runs longer is cancelled, and nothing was done."""
    config = Config.from_dsn(dsn, query_timeout_seconds=0.1)
    with Admin(config) as admin, Producer(config, "q") as producer:
        admin.create_queue("q")
        producer.enqueue(0)
        with locked(engine), pytest.raises(QueryTimeoutError, match="timeout") as caught:
            producer.enqueue(1)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.sqlstate == "57014"
        assert admin.queue_metrics("q").pending == 1


@shows("pooler")
@pytest.mark.parametrize("pooler", [False, True])
def test_pooler(dsn: str, pooler: bool) -> None:  # noqa: FBT001
    """Behind a pooler nothing is prepared and no startup option sent; otherwise both are."""
    config = Config.from_dsn(dsn, pooler=pooler, max_connections=3)
    with Admin(config) as admin, Producer(config, "q") as producer:
        admin.create_queue("q")
        for number in range(10):
            producer.enqueue(number)
        with admin.pool.connect() as connection:
            timeout = connection.scalar(text("SHOW statement_timeout"))
            prepared = connection.scalar(text("SELECT count(*) FROM pg_prepared_statements"))
        assert timeout == ("0" if pooler else "30s")
        assert bool(prepared) is not pooler


def test_startup_options_of_the_dsn_stay(dsn: str) -> None:
    """Options that the DSN carries are sent beside ours."""
    given = make_url(dsn).update_query_dict({"options": "-c work_mem=5MB"})
    config = Config.from_dsn(given.render_as_string(hide_password=False))
    with Admin(config) as admin, admin.pool.connect() as connection:
        assert connection.scalar(text("SHOW work_mem")) == "5MB"
        assert connection.scalar(text("SHOW statement_timeout")) == "30s"


@shows("max_payload_bytes")
def test_max_payload_bytes(dsn: str, admin: Admin) -> None:
    """The limit is on the UTF-8 bytes of the JSON text: just as many pass, one more does not."""
    admin.create_queue("q")
    with Producer(Config.from_dsn(dsn, max_payload_bytes=6), "q") as producer:
        producer.enqueue(["éé"[:1]])
        producer.enqueue("[12,3]")
        for payload in (["éé"], "[12,34]", b"[12,34]"):
            with pytest.raises(PayloadError, match="limit is 6"):
                producer.enqueue(payload)
    assert admin.queue_metrics("q").pending == 2


@shows("enqueue_chunk_rows", "enqueue_chunk_bytes")
@pytest.mark.parametrize(
    ("settings", "statements"),
    [
        ({}, 1),
        ({"enqueue_chunk_rows": 10}, 1),
        ({"enqueue_chunk_rows": 4}, 3),
        ({"enqueue_chunk_bytes": 30}, 5),
        ({"enqueue_chunk_bytes": 1}, 10),
    ],
)
def test_enqueue_chunks(dsn: str, admin: Admin, settings: dict[str, int], statements: int) -> None:
    """A batch is cut by rows and by bytes, and its ids are in order all the same."""
    admin.create_queue("q")
    sent: list[str] = []
    with Producer(Config.from_dsn(dsn, **settings), "q") as producer:
        event.listen(
            producer.binding.engine,  # type: ignore[attr-defined]
            "before_cursor_execute",
            lambda *given: sent.append(given[2]),
        )
        messages = producer.batch_enqueue([{"number": n} for n in range(10)])
    assert sum("pgqrs_messages" in statement for statement in sent) == statements
    assert [message.payload["number"] for message in messages] == list(range(10))
    assert sorted(message.id for message in messages) == [message.id for message in messages]


@shows("max_batch_size")
def test_max_batch_size(dsn: str, admin: Admin) -> None:
    """A lease takes no more than that, however many were asked for."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, max_batch_size=3)
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue([{}] * 5)
        assert len(consumer.dequeue_batch(100)) == 3


@shows("default_lock_time_seconds")
def test_default_lock_time(dsn: str, admin: Admin) -> None:
    """A lease lasts that long where neither the call nor the queue says otherwise."""
    admin.create_queue("q")
    admin.create_queue("other", visibility_timeout=7)
    config = Config.from_dsn(dsn, default_lock_time_seconds=77.5)

    def length(queue: str, **options: Any) -> float:
        with Producer(config, queue) as producer, Consumer(config, queue) as consumer:
            producer.enqueue({})
            message = consumer.dequeue(**options)
            assert message is not None
            assert message.dequeued_at is not None
            return round((message.vt - message.dequeued_at).total_seconds(), 1)

    assert length("q") == 77.5
    assert length("q", vt=3) == 3
    assert length("other") == 7


@shows("max_attempts")
def test_max_attempts(dsn: str, admin: Admin) -> None:
    """A message is dead after so many leases where neither it nor its queue says otherwise."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, max_attempts=2)
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.enqueue({})
        assert [consumer.dequeue(vt=0) is None for _ in range(3)] == [False, False, True]
    assert admin.queue_metrics("q").archived == 1


@shows("heartbeat_interval_seconds")
def test_heartbeat_interval(dsn: str, admin: Admin, engine: Engine) -> None:
    """Who holds a lease beats that often."""
    admin.create_queue("q")
    config = Config.from_dsn(dsn, heartbeat_interval_seconds=0.02)
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.enqueue({})
        with engine.connect() as connection:
            assert connection.scalar(text(BEAT)) == 0
        assert consumer.dequeue() is not None
        wait_for(engine, BEAT, 1)


@shows("stale_after_seconds")
def test_stale_after(dsn: str, admin: Admin, engine: Engine) -> None:
    """A worker silent for longer than that may be replaced; before, it is alive."""
    admin.create_queue("q")
    patient = Config.from_dsn(dsn, stale_after_seconds=60)
    hasty = Config.from_dsn(dsn, stale_after_seconds=5)
    with Producer(patient, "q", "h", 1) as first:
        first.enqueue(1)
        with engine.begin() as connection:
            silent = "UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '10 s'"
            connection.execute(text(silent))
        with Producer(patient, "q", "h", 1) as second, pytest.raises(WorkerExistsError):
            second.enqueue(2)
        with Producer(hasty, "q", "h", 1) as third:
            assert third.enqueue(3).producer_worker_id != first.worker_id


def test_every_setting_is_shown() -> None:
    """A setting that exists does something, and a test here or in the other files shows it."""
    for other in (
        "test_config_running",
        "test_listening",
        "test_maintain",
        "test_rate_limit",
        "test_validation",
    ):
        importlib.import_module(other)
    assert set(Config.model_fields) == SHOWN


def test_host_engine_is_not_ours_to_configure(dsn: str, admin: Admin) -> None:
    """On a host's engine the settings of connections are the host's: nothing of it is changed."""
    admin.create_queue("q")
    engine = create_engine(make_url(dsn).set(drivername="postgresql+psycopg"), pool_size=1)
    try:
        with Producer(engine, "q", config=Config.from_dsn(dsn, query_timeout_seconds=1)) as one:
            one.enqueue({})
        with engine.connect() as connection:
            assert connection.scalar(text("SHOW statement_timeout")) == "0"
    finally:
        engine.dispose()
