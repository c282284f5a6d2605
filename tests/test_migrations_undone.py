"""What `uninstall` takes away is pgqrs's own, all of it, and nothing else."""

from __future__ import annotations

import psycopg
import pytest
from shape import OURS, connected, plain, run, tables_in
from sqlalchemy import URL, Engine

from pgqrs import Admin, Config, Consumer, DatabaseError, Producer

pytestmark = pytest.mark.matrix


def test_uninstalling_leaves_no_trace(engine: Engine, admin: Admin) -> None:
    """Tables and schema are gone; a second time there is nothing to do."""
    admin.create_queue("work")
    printed = admin.uninstall()
    assert printed.count("DROP TABLE") == len(OURS)
    assert run(engine, "SELECT to_regnamespace('pgqrs') IS NULL")[0][0]
    assert admin.uninstall() == ""
    admin.install()
    assert admin.verify() == []


def test_a_dry_run_of_uninstall_only_prints(engine: Engine, admin: Admin) -> None:
    """It names what would be dropped, never CASCADE, and drops nothing."""
    printed = admin.uninstall(dry_run=True)
    assert "DROP SCHEMA pgqrs;" in printed
    assert "CASCADE" not in printed.upper()
    assert tables_in(engine) == OURS
    with psycopg.connect(plain(engine.url), autocommit=True) as connection:
        connection.execute(printed.encode())
    assert run(engine, "SELECT to_regnamespace('pgqrs') IS NULL")[0][0]


def test_what_is_open_can_be_closed_afterwards(config: Config, admin: Admin) -> None:
    """Workers have nothing left to sign off from, and end without a complaint."""
    admin.create_queue("q")
    with Producer(config, "q") as producer, Consumer(config, "q") as consumer:
        producer.enqueue(1)
        assert consumer.dequeue() is not None
        admin.uninstall()


@pytest.mark.parametrize(
    ("made", "look"),
    [
        ("TABLE pgqrs.theirs (id int)", "to_regclass('pgqrs.theirs')"),
        ("VIEW pgqrs.theirs AS SELECT 1 AS one", "to_regclass('pgqrs.theirs')"),
        ("MATERIALIZED VIEW pgqrs.theirs AS SELECT 1 AS one", "to_regclass('pgqrs.theirs')"),
        ("SEQUENCE pgqrs.pgqrs_theirs", "to_regclass('pgqrs.pgqrs_theirs')"),
        ("TYPE pgqrs.theirs AS ENUM ('a')", "to_regtype('pgqrs.theirs')"),
        ("DOMAIN pgqrs.theirs AS int", "to_regtype('pgqrs.theirs')"),
        (
            "FUNCTION pgqrs.theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "to_regproc('pgqrs.theirs')",
        ),
    ],
)
def test_uninstalling_keeps_what_is_not_ours(
    made: str, look: str, engine: Engine, admin: Admin
) -> None:
    """A schema that others use stays, with whatever they keep in it."""
    run(engine.execution_options(isolation_level="AUTOCOMMIT"), f"CREATE {made}")
    assert "DROP SCHEMA" not in admin.uninstall()
    assert tables_in(engine) <= {"theirs"}
    assert run(engine, f"SELECT {look} IS NOT NULL")[0][0]


def test_uninstalling_refuses_where_others_depend_on_us(engine: Engine, admin: Admin) -> None:
    """Nothing of a host's is ever dropped along: it fails as a whole, and says on what."""
    host = engine.execution_options(isolation_level="AUTOCOMMIT")
    run(host, "CREATE VIEW public.report AS SELECT queue_name FROM pgqrs.pgqrs_queues")
    with pytest.raises(DatabaseError, match="other objects depend"):
        admin.uninstall()
    assert tables_in(engine) == OURS


def test_the_public_schema_is_never_dropped(empty_url: URL) -> None:
    """It is the database's own, even when pgqrs alone used it."""
    with (
        connected(empty_url) as empty,
        Admin(Config.from_dsn(plain(empty_url), schema="public")) as admin,
    ):
        admin.install()
        assert tables_in(empty, "public") == OURS
        assert admin.verify() == []
        assert "DROP SCHEMA" not in admin.uninstall()
        assert tables_in(empty, "public") == set()
