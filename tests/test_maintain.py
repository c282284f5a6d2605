"""Maintenance: what a round does, who does it, and that nothing depends on it."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Iterator

import pytest
from line import Line
from settings import shows
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from waiting import ask, until

import pgqrs
from pgqrs import (
    Admin,
    Archive,
    Config,
    Consumer,
    Maintenance,
    Producer,
    caretaker,
    cursors,
    engines,
)
from pgqrs.aio import AsyncAdmin
from pgqrs.cli import app as cli
from pgqrs.embedded import EmbeddedPostgres
from pgqrs.operations import maintain

STATES = "SELECT array_agg(state ORDER BY id) FROM pgqrs.pgqrs_messages"
ELECTED = "SELECT count(*) FROM pgqrs.pgqrs_workers WHERE leads_until > now()"
TERM = dt.timedelta(minutes=1)


@pytest.fixture
def line(config: Config) -> Iterator[Line]:
    line = Line(config, max_attempts=1)
    yield line
    line.close()


def leased(line: Line, n: int) -> list[pgqrs.QueueMessage]:
    line.producer.batch_enqueue(range(n))
    return line.consumer.dequeue_batch(n)


def test_the_exhausted_are_buried_without_a_consumer(line: Line) -> None:
    """They are archived as dead with all that was theirs; what has an attempt left is not."""
    spared = line.producer.enqueue("1", max_attempts=2)
    assert line.consumer.dequeue() is not None
    gone = leased(line, 2)
    line.expire_all()
    assert line.admin.maintain().dead_messages == 2
    assert [row.status for row in line.archived().values()] == ["dead", "dead"]
    assert list(line.waiting()) == [spared.id]
    assert Archive(line.admin).get(gone[-1].id).error == "the lease of the last attempt ran out"
    assert line.admin.maintain() == Maintenance(vacuumed=True)


def test_a_paused_queue_is_left_as_it_is(line: Line) -> None:
    """Its holders may still acknowledge late."""
    (held,) = leased(line, 1)
    line.expire_all()
    line.admin.pause_queue(line.queue)
    assert line.admin.maintain().dead_messages == 0
    assert line.consumer.archive(held).status == "completed"


def test_messages_of_the_lost_wait_again(line: Line) -> None:
    """Those of stopped, stale and deleted workers; a late acknowledgement is still accepted."""
    line.admin.update_queue(line.queue, max_attempts=5)
    mine, theirs = leased(line, 1), []
    line.producer.enqueue(1)
    theirs += line.other.dequeue_batch(1)
    line.expire_all()
    assert line.admin.maintain().reclaimed_messages == 0
    line.execute(
        "UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '1 h' WHERE id = :id",
        id=line.other.worker_id,
    )
    assert line.admin.maintain().reclaimed_messages == 1
    assert ask(line.admin.pool, STATES) == [2, 0]
    assert line.other.archive_batch(theirs) == [True]
    assert line.consumer.archive_batch(mine) == [True]


def test_an_unexpired_lease_is_never_taken(line: Line) -> None:
    """However long its worker has been silent."""
    (held,) = leased(line, 1)
    line.execute("UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '1 month'")
    done = line.admin.maintain()
    assert (done.dead_messages, done.reclaimed_messages) == (0, 0)
    assert line.row(held).state == 2


def test_history_is_kept_as_long_as_its_queue_says(line: Line) -> None:
    """Older than `retention` goes, and where nothing is said all stays."""
    line.admin.create_queue("other")
    with Producer(line.config, "other") as producer, Consumer(line.config, "other") as consumer:
        producer.enqueue(1)
        assert consumer.archive_batch(consumer.dequeue_batch(1)) == [True]
    line.consumer.archive_batch(leased(line, 3))
    line.execute(
        "UPDATE pgqrs.pgqrs_archive SET enqueued_at = enqueued_at - interval '2 d',"
        " archived_at = archived_at - interval '2 d' WHERE id % 2 = 0"
    )
    before = len(line.archived())
    assert line.admin.maintain().purged_messages == 0
    assert line.admin.update_queue(line.queue, retention=86400).retention == dt.timedelta(days=1)
    purged = line.admin.maintain().purged_messages
    assert purged == sum(m.id % 2 == 0 for m in line.archived().values()) + purged > 0
    assert len(line.archived()) == before - purged
    assert Archive(line.admin).count_by_fk(line.admin.get_queue("other").id) == 1


def test_rows_of_workers_long_gone_are_deleted(line: Line) -> None:
    """A day after the last sign of life, unless they hold something."""
    (held,) = leased(line, 1)
    line.other.dequeue()
    line.execute("UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '25 h'")
    done = line.admin.maintain()
    left = [worker.id for worker in line.admin.workers(line.queue)]
    assert left == [held.consumer_worker_id]
    assert done.purged_workers == 2


def test_two_at_once_are_harmless(line: Line) -> None:
    """Nothing is moved twice, nothing is forgotten, and nobody waits for the other."""
    leased(line, 100)
    for _ in range(14):
        leased(line, 100)
    line.expire_all()
    done: list[Maintenance] = []
    crowd = [threading.Thread(target=lambda: done.append(line.admin.maintain())) for _ in range(3)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert sum(each.dead_messages for each in done) == 1500
    assert len(line.archived()) == 1500
    assert not line.waiting()


def test_within_a_transaction_nothing_is_vacuumed(line: Line) -> None:
    """The rest is done, and undone with it."""
    leased(line, 2)
    line.expire_all()
    with Session(line.admin.pool.execution_options(isolation_level="READ COMMITTED")) as session:
        assert Admin(session, line.config).maintain() == Maintenance(dead_messages=2)
        session.rollback()
    assert len(line.waiting()) == 2


def test_under_asyncio(line: Line) -> None:
    """The twin does the same."""
    leased(line, 2)
    line.expire_all()

    async def act() -> Maintenance:
        async with AsyncAdmin(line.config) as admin:
            return await admin.maintain()

    assert asyncio.run(act()) == Maintenance(dead_messages=2, vacuumed=True)


def test_one_worker_is_elected(line: Line) -> None:
    """Until its term is over or it stops; it may renew it, and a stopped one is never elected."""
    line.consumer.heartbeat()
    line.other.heartbeat()
    first, second = line.consumer.worker_id or 0, line.other.worker_id or 0
    with line.admin.pool.connect() as connection:

        def leads(worker_id: int) -> bool:
            return maintain.lead(connection, "pgqrs", worker_id, TERM)

        assert leads(first)
        assert not leads(second)
        assert leads(first)
        line.execute("UPDATE pgqrs.pgqrs_workers SET leads_until = now() - interval '1 s'")
        assert leads(second)
        assert not leads(first)
        line.other.suspend()
        line.other.shutdown()
        assert leads(first)
        assert not leads(second)


@shows("cleanup_interval_seconds")
def test_a_running_worker_maintains_all_queues(line: Line, dsn: str) -> None:
    """Also queues that nobody works; and with an interval of 0 it never does."""
    line.admin.create_queue("idle")
    leased(line, 3)
    line.expire_all()
    for interval, left in ((0, 3), (0.05, 0)):
        config = Config.from_dsn(dsn, cleanup_interval_seconds=interval)
        with Consumer(config, "idle") as consumer:
            work = threading.Thread(target=consumer.run, args=(print,))
            work.start()
            if interval:
                until(lambda: not line.waiting())
                until(lambda: ask(line.admin.pool, ELECTED) == 1)
            else:
                until(lambda: any(w.role == "consumer" for w in line.admin.workers("idle")))
                names = [thread.name for thread in threading.enumerate()]
                assert "pgqrs-maintenance" not in names
            consumer.stop()
            work.join(20)
        assert len(line.waiting()) == left


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(durable=False, settings={"autovacuum": "off"}) as server:
        yield server


def test_dead_rows_are_vacuumed(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand; and by a running worker after many leases, where many rows are dead."""
    monkeypatch.setattr(caretaker, "VACUUM_AFTER", 300)
    monkeypatch.setattr(caretaker, "_DEAD_ROWS", 200)
    vacuums = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'pgqrs_messages'"
    dead = "SELECT pg_stat_get_dead_tuples('pgqrs.pgqrs_messages'::regclass)"
    config = Config.from_dsn(server.dsn())
    with Admin(config) as admin, Producer(config, "q") as producer:
        admin.install()
        admin.create_queue("q")
        producer.batch_enqueue(range(1000))
        admin.purge_queue("q")
        until(lambda: ask(admin.pool, dead) == 1000)
        assert admin.maintain().vacuumed
        until(lambda: ask(admin.pool, dead) == 0)
        before = ask(admin.pool, vacuums)
        with Consumer(config, "q") as consumer:
            work = threading.Thread(target=consumer.run, args=(lambda _: None,))
            work.start()

            def vacuumed() -> bool:
                producer.batch_enqueue(range(100))
                return bool(ask(admin.pool, vacuums) > before)

            until(vacuumed)
            consumer.stop()
            work.join(20)


def test_a_vacuum_may_take_its_time(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own connection it has no limit, of the server's or of ours."""
    monkeypatch.setattr(engines, "GRACE", 0.1)
    engine = engines.single(Config.from_dsn(dsn, query_timeout_seconds=0.1))
    with engine.connect() as connection:
        with pytest.raises(DBAPIError, match="statement timeout"):
            connection.execute(text("SELECT pg_sleep(0.6)"))
        maintain.take_time(connection)
        with pytest.raises(DBAPIError, match="user request"):
            connection.execute(text("SELECT pg_sleep(0.6)"))
        cursors.take_time(connection)
        connection.execute(text("SELECT pg_sleep(0.6)"))
    engine.dispose()


def test_who_may_not_vacuum_does_the_rest(server: EmbeddedPostgres) -> None:
    """A role that owns nothing maintains too; the server only warns about the VACUUM."""
    with Admin(Config.from_dsn(server.dsn())) as admin:
        admin.install()
        admin.create_queue("q")
        grants = (
            "CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA pgqrs TO clerk;"
            " GRANT ALL ON ALL TABLES IN SCHEMA pgqrs TO clerk"
        )
        with admin.pool.connect() as connection:
            connection.execute(text(grants))
    url = Config.from_dsn(server.dsn()).url.set(username="clerk")
    engine: Engine = create_engine(url)
    with Admin(engine, Config.from_dsn(server.dsn())) as clerk:
        assert clerk.maintain().dead_messages == 0
    engine.dispose()


def test_the_command(line: Line, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`pgqrs admin maintain` does a round and says what it did."""
    leased(line, 2)
    line.expire_all()
    assert cli.run(["--dsn", dsn, "--format", "json", "admin", "maintain"]) == 0
    assert '"dead_messages": 2' in capsys.readouterr().out
