"""`pgqrs doctor`: each check sees the fault it is for, and what it says mends it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import shlex
import struct
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from bouncer import PROGRAM, bouncer
from sqlalchemy import URL, Engine, create_engine, text
from waiting import until

from pgqrs import (
    Admin,
    Config,
    Consumer,
    DatabaseError,
    PgqrsError,
    Producer,
    QueuePolicy,
    migrations,
)
from pgqrs.aio import AsyncAdmin
from pgqrs.cli.app import run as run_line
from pgqrs.doctor import CHECKS, Terms, examine
from pgqrs.embedded import EmbeddedPostgres
from pgqrs.types import Finding

NOW = dt.timedelta(0)
FILL = """
INSERT INTO pgqrs.pgqrs_messages (queue_id, vt, enqueued_at, payload)
  SELECT 1, now(), now(), to_jsonb(repeat('x', 200)) FROM generate_series(1, :count ::int)
"""


@pytest.fixture(scope="module")
def apart() -> Iterator[Engine]:
    """A server of its own, for faults that are everybody's."""
    settings = {"max_prepared_transactions": 5, "max_notify_queue_pages": 64}
    with EmbeddedPostgres(durable=False, settings=settings) as server:
        engine = create_engine(Config.from_dsn(server.dsn()).url)
        migrations.install(engine)
        yield engine
        engine.dispose()


@pytest.fixture
def command(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Run a command line as a finding prints it."""
    monkeypatch.setenv("PGQRS_DSN", dsn)
    return lambda line: run_line(shlex.split(line.removeprefix("pgqrs ")))


def look(engine: Engine, check: str, **terms: Any) -> list[Finding]:
    """Do one check, in autocommit as an Admin does."""
    (one,) = (each for each in CHECKS if each.name == check)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return [*one.look(connection, Terms("pgqrs", **terms))]


def execute(engine: Engine, *statements: str, **values: Any) -> None:
    """Execute what a test plants, or what a remedy says."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement), values)


def sql_of(finding: Finding) -> str:
    """The SQL in a remedy."""
    found = re.search(
        r"(SELECT|ALTER|GRANT|VACUUM|ANALYZE|REINDEX|UPDATE|ROLLBACK) .*", finding.remedy
    )
    assert found, finding
    return found[0].partition(";")[0]


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


@pytest.mark.matrix
def test_nothing_is_amiss_in_a_schema_in_use(
    admin: Admin, config: Config, command: Callable[[str], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """With consumers at work there is nothing to say, and the status is 0."""
    admin.create_queue("q")
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue(["1"] * 20)
        consumer.dequeue_batch(5)
        assert admin.diagnose() == []
        assert admin.diagnose(fix=True) == []
        assert command("pgqrs doctor") == 0
        assert capsys.readouterr().out == "all is well\n"


def test_a_schema_that_is_not_there_is_one_error(
    empty_url: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest cannot be looked at and is said to be not; the status is 1."""
    dsn = empty_url.set(drivername="postgresql").render_as_string(hide_password=False)
    monkeypatch.setenv("PGQRS_DSN", dsn)
    assert run_line(["doctor", "--format", "json"]) == 1
    first, rest = json.loads(capsys.readouterr().out)
    assert (first["severity"], first["remedy"]) == ("error", "pgqrs --schema pgqrs install")
    assert rest["message"] == "the rest was not looked at"
    assert run_line(shlex.split(first["remedy"])[1:]) == 0
    capsys.readouterr()
    assert run_line(["doctor"]) == 0


@pytest.mark.matrix
def test_rights_that_a_role_lacks(
    role: str, url: URL, engine: Engine, command: Callable[[str], int]
) -> None:
    """They are named, and the remedy gives them; what suffices for one work is no error."""
    config = Config.from_dsn(url.set(username=role, password="secret").render_as_string(False))

    def found() -> list[Finding]:
        with Admin(config) as tenant:
            return of(tenant.diagnose(), "rights")

    (nothing,) = found()
    assert nothing.severity == "error"
    assert f"role {role} lacks, to be a consumer, USAGE on pgqrs, " in nothing.message
    assert f"pgqrs grant consumer {role}" == nothing.remedy
    assert command(f"pgqrs grant producer {role}") == 0
    (enough,) = found()
    assert (enough.severity, enough.message) == (
        "note",
        f"role {role} may do what a producer may, and no more",
    )
    execute(engine, f"REVOKE DELETE ON pgqrs.pgqrs_workers FROM {role}")
    (near,) = found()
    message = f"role {role} lacks, to be a producer, DELETE on pgqrs_workers"
    assert (near.message, near.remedy) == (message, f"pgqrs grant producer {role}")
    assert command(nothing.remedy) == 0
    assert {finding.severity for finding in found()} == {"note"}
    assert command(f"pgqrs grant admin {role}") == 0
    newer = engine.dialect.server_version_info >= (17,)  # type: ignore[operator]
    assert [finding.message for finding in found()] == (
        [] if newer else [f"role {role} may not vacuum pgqrs_messages: autovacuum does it alone"]
    )
    assert command(f"pgqrs revoke {role}") == 0
    assert found() == [nothing]


def test_a_missing_index_is_seen_in_the_plan(engine: Engine, admin: Admin) -> None:
    """On the data that are there: the lease is planned and not executed."""
    admin.create_queue("q")
    execute(engine, FILL, count=20_000)
    assert look(engine, "plan") == []  # whatever the server knows of the table
    execute(engine, "ANALYZE pgqrs.pgqrs_messages")
    for policy in QueuePolicy:
        admin.create_queue(policy, policy=policy)
    assert look(engine, "plan") == []
    execute(engine, "DROP INDEX pgqrs.pgqrs_messages_ready")
    found = admin.diagnose()
    plan, *others = of(found, "plan")
    assert len(others) == len(QueuePolicy)
    assert "a lease of queue 'exclusive' " in plan.message
    assert "does not use index pgqrs_messages_ready" in plan.message
    (schema,) = of(found, "schema")
    execute(engine, schema.remedy)
    assert look(engine, "plan") == []
    assert admin.queue_metrics("q").pending == 10_000


def test_a_foreign_key_that_is_missing(engine: Engine, admin: Admin) -> None:
    """What `verify` sees is a part of the report."""
    key = "pgqrs_messages_queue_id_fkey"
    execute(engine, f"ALTER TABLE pgqrs.pgqrs_messages DROP CONSTRAINT {key}")
    (found,) = admin.diagnose()
    assert (found.check, found.severity) == ("schema", "warning")
    execute(engine, found.remedy)
    assert admin.diagnose() == []


def test_ids_behind_the_rows(
    engine: Engine, admin: Admin, config: Config, command: Callable[[str], int]
) -> None:
    """After a restore of the rows alone, also of those in the archive, new ones can be added."""
    admin.create_queue("q")
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue(["1"] * 9)
        consumer.archive_batch(consumer.dequeue_batch(9))
        execute(engine, "ALTER TABLE pgqrs.pgqrs_messages ALTER id RESTART")
        (found,) = of(admin.diagnose(), "ids")
        assert found.message == "pgqrs_messages gives id 1 next, and 9 is in use"
        assert command(found.remedy) == 0
        assert producer.enqueue("1").id == 10
    assert admin.bump_ids() == {}


def test_ids_are_not_moved_blindly(role: str, url: URL, engine: Engine, admin: Admin) -> None:
    """A role that may not see what was given out last is told so, and moves nothing."""
    admin.create_queue("q")
    execute(engine, f"GRANT USAGE ON SCHEMA pgqrs TO {role}")
    execute(engine, f"GRANT SELECT ON ALL TABLES IN SCHEMA pgqrs TO {role}")
    config = Config.from_dsn(url.set(username=role, password="secret").render_as_string(False))
    with (
        Admin(config) as tenant,
        pytest.raises(PgqrsError, match="given out for pgqrs_queues: `pgqrs"),
    ):
        tenant.bump_ids()
    assert admin.create_queue("next").id == 2


def test_ids_of_workers_behind_the_rows(engine: Engine, admin: Admin, config: Config) -> None:
    """Registering says which id is in use, not that somebody else has a host and port."""
    admin.create_queue("q")
    for port in (1, 2):
        with Consumer(config, "q", "far", port) as other:
            other.heartbeat()
    execute(engine, "ALTER TABLE pgqrs.pgqrs_workers ALTER id RESTART")
    with Consumer(config, "q") as second:
        with pytest.raises(DatabaseError, match="pgqrs_workers_pkey"):
            second.heartbeat()
        assert admin.bump_ids() == {"pgqrs_workers": 2}
        second.heartbeat()


def test_workers_that_ended_without_a_word(
    engine: Engine, admin: Admin, config: Config, command: Callable[[str], int]
) -> None:
    """They are stopped, and what they hold is due."""
    admin.create_queue("q")
    with Producer(config, "q") as producer:
        producer.enqueue("1")
    consumer = Consumer(config, "q", "far", 1)
    consumer.dequeue()
    execute(engine, "UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '1 h'")
    (found,) = of(admin.diagnose(), "workers")
    assert re.search(r"on far\) gave no sign for 3,6\d\d s, and holds 1 messages", found.message)
    assert command(found.remedy) == 0
    assert of(admin.diagnose(), "workers") == []
    assert admin.queue_metrics("q").pending == 1
    consumer.close()


def test_leases_of_workers_that_are_gone(engine: Engine, admin: Admin, config: Config) -> None:
    """Stopped or deleted, nobody will acknowledge what they hold."""
    admin.create_queue("q")
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue(["1", "2"])
        consumer.dequeue(vt=3600)
        assert of(admin.diagnose(), "leases") == []
        execute(engine, "UPDATE pgqrs.pgqrs_messages SET consumer_worker_id = 99 WHERE state = 2")
        (found,) = of(admin.diagnose(), "leases")
        assert re.search(r"1 messages are leased by worker 99, .* in 3,(600|59\d) s", found.message)
        consumer.dequeue(vt=60)
        stop = "UPDATE pgqrs.pgqrs_workers SET status = 'stopped', shutdown_at = now()"
        execute(engine, stop)
        for orphaned in of(admin.diagnose(), "leases"):
            execute(engine, sql_of(orphaned))
    assert of(admin.diagnose(), "leases") == []
    assert admin.queue_metrics("q").pending == 2


def test_messages_that_wait_for_nobody(
    engine: Engine, admin: Admin, config: Config, command: Callable[[str], int]
) -> None:
    """A paused queue, one without consumers, a type without a handler, a suspended worker."""
    admin.create_queue("q")
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.batch_enqueue(["1", "2"])
        admin.pause_queue("q")
        (paused,) = of(admin.diagnose(), "queues")
        assert command(paused.remedy) == 0
        (alone,) = of(admin.diagnose(), "queues")
        assert alone.message == "messages wait in queue 'q', and no consumer of it is alive"
        consumer.heartbeat()
        assert of(admin.diagnose(), "queues") == []
        consumer.suspend()
        suspended = of(admin.diagnose(), "queues")[-1]
        assert command(suspended.remedy) == 0
        execute(
            engine,
            "UPDATE pgqrs.pgqrs_messages SET state = 1, vt = now() + interval '1 h',"
            " read_ct = 1, returned_ct = 1, message_type = 'old_mail' WHERE id = 1",
        )
        assert "1 messages of type 'old_mail'" in of(admin.diagnose(), "types")[0].message
        assert command("pgqrs message cancel 1") == 0
        assert admin.diagnose() == []


def test_dead_rows_and_missing_statistics_are_mended(engine: Engine, admin: Admin) -> None:
    """`fix` vacuums, analyzes, and says what was amiss until then."""
    admin.create_queue("q")
    execute(
        engine, FILL, "ALTER TABLE pgqrs.pgqrs_archive SET (autovacuum_enabled = off)", count=3000
    )
    execute(engine, "DELETE FROM pgqrs.pgqrs_messages WHERE id <= 1500")
    engine.dispose()  # what a session did is counted at its end
    terms = Terms("pgqrs", dead_rows=1000)
    until(lambda: look(engine, "dead rows", dead_rows=1000))
    until(lambda: look(engine, "statistics", dead_rows=1000))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        found = examine(connection, terms, fix=True)
        again = examine(connection, terms, fix=False)
    assert {f.check for f in found if f.mended} == {"dead rows", "statistics"}
    assert {f.check for f in again} == {"vacuuming", "queues"}
    (off,) = of(again, "vacuuming")
    assert (off.severity, off.message) == ("error", "autovacuum is off for pgqrs_archive")
    execute(engine, off.remedy)
    assert look(engine, "vacuuming") == []


def test_an_index_far_larger_than_its_rows_need(engine: Engine, admin: Admin) -> None:
    """What a burst left behind: VACUUM empties the pages, and keeps them."""
    admin.create_queue("q")
    execute(engine, FILL, count=60_000)
    execute(engine, "VACUUM pgqrs.pgqrs_messages")
    assert look(engine, "indexes", bloat_bytes=2**20) == []
    execute(engine, "DELETE FROM pgqrs.pgqrs_messages", "VACUUM pgqrs.pgqrs_messages")
    found = look(engine, "indexes", bloat_bytes=2**20)
    assert {f.message.split()[1] for f in found} == {"pgqrs_messages_pkey", "pgqrs_messages_ready"}
    execute(engine, *map(sql_of, found))
    assert look(engine, "indexes", bloat_bytes=2**20) == []


def test_clocks_that_differ(engine: Engine) -> None:
    """The server's is the one that counts; a difference is told with its size."""

    def fast() -> dt.datetime:
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)

    assert look(engine, "clock") == []
    (found,) = look(engine, "clock", clock=fast)
    assert re.search(r"are (59|60) s apart", found.message)


def test_what_other_roles_do_is_not_guessed(role: str, url: URL, engine: Engine) -> None:
    """A role that may not see others' transactions says of how many sessions; the remedy shows."""
    tenant = create_engine(url.set(username=role, password="secret"))
    with engine.connect() as other:
        other.execute(text("SELECT 1"))
        (found,) = look(tenant, "horizon")
        assert found.severity == "note"
        assert f"role {role} may not see the transactions of 1 sessions" in found.message
        execute(engine, sql_of(found))
        assert look(tenant, "horizon") == []
        execute(engine, sql_of(found).replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
    tenant.dispose()


def test_who_holds_a_snapshot(apart: Engine) -> None:
    """A session, a prepared transaction, a replica: each with what ends it."""
    assert look(apart, "horizon", held_for=NOW) == []
    dsn = apart.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with contextlib.closing(psycopg.connect(dsn, application_name="report")) as session:
        session.execute("CREATE TEMPORARY TABLE t (a int)")
        assert look(apart, "horizon") == []
        (found,) = look(apart, "horizon", held_for=NOW, held_too_long=NOW)
        assert found.severity == "error"
        assert (
            f"session {session.info.backend_pid} (client backend, postgres, report" in found.message
        )
        execute(apart, sql_of(found))
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with psycopg.connect(dsn) as other:
        other.execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'left over'")
    (found,) = look(apart, "horizon", held_for=NOW)
    assert "prepared transaction 'left over' of postgres" in found.message
    execute(apart, sql_of(found))
    execute(apart, "SELECT pg_create_physical_replication_slot('replica', true)")
    feed_back(dsn, "replica")
    (found,) = until(lambda: look(apart, "horizon", held_for=NOW, transactions=0))
    assert "replication slot replica (physical, inactive) holds a snapshot (" in found.message
    execute(apart, sql_of(found))
    assert look(apart, "horizon", held_for=NOW, transactions=0) == []


def feed_back(dsn: str, slot: str) -> None:
    """Be a replica for a moment that has a long query: the slot remembers its snapshot."""
    with psycopg.connect(dsn, autocommit=True) as plain:
        row = plain.execute("SELECT pg_current_wal_lsn(), txid_current()").fetchone()
    assert row is not None
    wire = psycopg.pq.PGconn.connect(f"{dsn}{'&' if '?' in dsn else '?'}replication=true".encode())
    wire.exec_(f"START_REPLICATION SLOT {slot} PHYSICAL {row[0]}".encode())
    wire.put_copy_data(b"h" + struct.pack("!qIIII", 0, row[1], 0, 0, 0))
    wire.flush()
    until(lambda: held_by_slot(dsn))
    wire.finish()
    until(lambda: held_by_slot(dsn, active=False))


def held_by_slot(dsn: str, *, active: bool = True) -> Any:
    with psycopg.connect(dsn) as session:
        query = "SELECT xmin FROM pg_replication_slots WHERE xmin IS NOT NULL AND active = %s"
        return session.execute(query, [active]).fetchone()


def test_notifications_that_pile_up(apart: Engine) -> None:
    """Somebody listens and stays in a transaction: ending that session frees the queue."""
    assert look(apart, "notifications") == []
    dsn = apart.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with contextlib.closing(psycopg.connect(dsn, autocommit=True)) as ear:
        ear.execute("LISTEN anything")
        ear.execute("BEGIN; SELECT 1")
        execute(apart, *[f"NOTIFY anything, '{'x' * 7900}{n}'" for n in range(42)])
        (found,) = look(apart, "notifications")
        assert found.severity == "error"
        assert "% full" in found.message
        (row,) = rows(apart, sql_of(found).partition(", then")[0])
        execute(apart, f"SELECT pg_terminate_backend({row[0]})", "NOTIFY anything")
    until(lambda: not look(apart, "notifications"))


def rows(engine: Engine, query: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(query)).all())


def test_autovacuum_that_is_off(apart: Engine) -> None:
    """On the whole server, which is told with what switches it on."""
    execute(apart, "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
    (found,) = until(lambda: look(apart, "vacuuming"))
    execute(apart, *found.remedy.split("; "))
    until(lambda: not look(apart, "vacuuming"))


async def hears(dsn: str, **settings: Any) -> list[Finding]:
    async with AsyncAdmin(Config.from_dsn(dsn, **settings)) as admin:
        return of(await admin.diagnose(), "hearing")


@pytest.mark.parametrize(
    ("settings", "severity", "said"),
    [
        ({"pooler": True}, "warning", "a pooler stands before the server"),
        ({"listen_dsn": "postgresql://127.0.0.1:1/none"}, "error", "cannot be reached"),
        ({"listen_dsn": "of another database"}, "error", "leads to another database, or to a pool"),
        ({"enable_listen_notify": False}, "note", "enable_listen_notify is off"),
    ],
)
def test_notifications_that_do_not_arrive(
    dsn: str, server_url: URL, settings: dict[str, Any], severity: str, said: str
) -> None:
    """Found out as a running worker does, by a notification sent to oneself."""
    import asyncio

    other = server_url.set(drivername="postgresql").render_as_string(hide_password=False)
    if settings.get("listen_dsn") == "of another database":
        settings = {"listen_dsn": other}
    (found,) = asyncio.run(hears(dsn, **settings))
    assert (found.severity, said in found.message) == (severity, True), found
    if severity != "note":
        assert "listen_dsn" in found.remedy
        assert asyncio.run(hears(dsn, pooler=True, listen_dsn=dsn)) == []


def test_within_a_transaction_it_looks_and_mends_nothing(engine: Engine, admin: Admin) -> None:
    """Nothing of the caller's is committed, and mending is refused before anything is done."""
    admin.create_queue("q")
    with engine.begin() as connection:
        inside = Admin(connection)
        inside.create_queue("r")
        assert inside.diagnose() == []
        with pytest.raises(TypeError, match="outside of a transaction of yours"):
            inside.diagnose(fix=True)
        connection.rollback()
    assert [queue.queue_name for queue in admin.list_queues()] == ["q"]


def test_the_report_for_people(admin: Admin, dsn: str) -> None:
    """A sentence for each finding, and below it what mends it; notes can be left out."""
    admin.create_queue("q")
    with Producer(admin, "q") as producer:
        producer.enqueue("1")
    import sys

    shown = subprocess.run(
        [sys.executable, "-m", "pgqrs", "--dsn", dsn, "doctor", "--quiet"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == (
        "warning  queues  messages wait in queue 'q', and no consumer of it is alive\n"
        "                 → pgqrs worker run MODULE:NAME --queue q\n"
    )


@pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")
def test_a_pooler_that_nobody_told_of(url: URL, dsn: str) -> None:
    """LISTEN fails without an error there, so it is proven; what the remedy sets is heard."""
    with bouncer(url, ignored="options") as pooled:
        with Admin(Config.from_dsn(pooled)) as admin:
            (found,) = of(admin.diagnose(), "hearing")
        assert found.severity == "warning"
        assert "a pooler stands before the server and drops notifications" in found.message
        with Admin(Config.from_dsn(pooled, pooler=True, listen_dsn=dsn)) as admin:
            assert admin.diagnose() == []
