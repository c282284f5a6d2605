"""The schema comes, changes and goes as promised, whoever asks, and however many at once."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from shape import OURS, connected, plain, run, shape, tables_in
from sqlalchemy import URL, Connection, Engine, create_engine, inspect, text

from pgqrs import Admin, Config, DatabaseError, Producer, migrations, models

pytestmark = pytest.mark.matrix

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def empty(empty_url: URL) -> Iterator[Engine]:
    """An engine on a database with nothing in it."""
    with connected(empty_url) as engine:
        yield engine


def revision(engine: Engine, schema: str = "pgqrs") -> str | None:
    with engine.connect() as connection:
        return migrations.installed_revision(connection, schema)


def alembic_on(connection: Connection) -> AlembicConfig:
    config = AlembicConfig(stdout=io.StringIO())
    config.set_main_option("script_location", str(migrations.script_location()))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, schema="pgqrs")
    return config


# The four checks.


def test_there_is_one_head() -> None:
    """A host that follows us never has to choose between two histories."""
    heads = ScriptDirectory(str(migrations.script_location())).get_heads()
    assert heads == [migrations.head()]


def test_an_empty_database_is_brought_to_the_head(empty: Engine) -> None:
    """Schema, version table and tables are made, and nothing outside the schema."""
    assert revision(empty) is None
    migrations.install(empty)
    assert revision(empty) == migrations.head()
    assert tables_in(empty) == OURS
    assert tables_in(empty, "public") == set()


def test_the_models_are_what_the_migrations_make(engine: Engine) -> None:
    """Alembic, asked to write the next revision, has nothing to write."""
    options = migrations.comparison("pgqrs")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, models.Model.metadata) == []
        for table in models.tables():
            where = text("SELECT reloptions FROM pg_class WHERE oid = to_regclass(:name)")
            stored = connection.scalar(where, {"name": f"pgqrs.{table.name}"})
            wanted = table.info.get("storage", {})
            assert dict(option.split("=") for option in stored or ()) == wanted


def test_down_and_up_again(url: URL) -> None:
    """Each revision can be taken back, and leaves nothing that stops it from coming again."""
    with create_engine(url).connect() as connection:
        before = shape(connection.engine)
        command.downgrade(alembic_on(connection), "base")
        assert tables_in(connection.engine) == {migrations.VERSION_TABLE}
        command.upgrade(alembic_on(connection), "head")
        assert shape(connection.engine) == before
    connection.engine.dispose()


# Installing.


def test_installing_again_changes_nothing(engine: Engine, admin: Admin) -> None:
    """A deployment may install each time: what is there stays, with all it holds."""
    admin.create_queue("work")
    before = shape(engine)
    admin.install()
    assert shape(engine) == before
    assert [queue.queue_name for queue in admin.list_queues()] == ["work"]


INSTALLER = """
import sys
from pgqrs import Admin, Config
admin = Admin(Config.from_dsn(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
admin.install()
admin.close()
"""


def test_two_processes_may_install_at_once(empty_url: URL, empty: Engine) -> None:
    """Several instances of a deployment start together: one installs, the other finds it done."""
    installers = [
        subprocess.Popen(
            [sys.executable, "-c", INSTALLER, plain(empty_url)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for installer in installers:
        assert installer.stdout is not None
        assert installer.stdout.readline() == "ready\n"
    replies = [installer.communicate("go\n") for installer in installers]
    assert [(i.returncode, reply[1]) for i, reply in zip(installers, replies, strict=True)] == [
        (0, ""),
        (0, ""),
    ]
    assert tables_in(empty) == OURS


def test_several_threads_may_install_at_once(empty_url: URL, empty: Engine) -> None:
    """Also into schemas of their own, though Alembic's context is one a process."""
    schemas = ["pgqrs", "pgqrs", "pgqrs", "other", "other"]
    barrier = threading.Barrier(len(schemas))
    failures: list[Exception] = []

    def install(schema: str) -> None:
        barrier.wait()
        try:
            with connected(empty_url) as engine:
                migrations.install(engine, schema)
        except Exception as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=install, args=(schema,)) for schema in schemas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert tables_in(empty) == tables_in(empty, "other") == OURS


def test_a_dry_run_prints_what_would_make_the_same_schema(empty_url: URL, engine: Engine) -> None:
    """The SQL can be reviewed, and run by somebody who may, without pgqrs."""
    with Admin(Config.from_dsn(plain(empty_url))) as admin:
        sql = admin.install(dry_run=True)
    with psycopg.connect(plain(empty_url), autocommit=True) as connection:
        before = connection.execute("SELECT to_regnamespace('pgqrs') IS NULL").fetchone()
        connection.execute(sql.encode())
    assert before == (True,)
    with connected(empty_url) as made:
        assert shape(made) == shape(engine)
        assert revision(made) == migrations.head()


def test_two_schemas_in_one_database_are_strangers(empty_url: URL, empty: Engine) -> None:
    """One application's queues are not seen, nor removed, by another's."""
    for schema in ("pgqrs", "Other"):
        with Admin(Config.from_dsn(plain(empty_url), schema=schema)) as admin:
            admin.install()
            admin.create_queue(f"in-{schema}")
            assert [queue.queue_name for queue in admin.list_queues()] == [f"in-{schema}"]
            with Producer(admin, f"in-{schema}") as producer:
                producer.enqueue({"a": 1})
            assert admin.queue_metrics(f"in-{schema}").pending == 1
    migrations.uninstall(empty, "Other")
    assert tables_in(empty) == OURS
    assert run(empty, "SELECT to_regnamespace('\"Other\"') IS NULL")[0][0]


def test_owning_the_schema_is_right_enough(role: str, empty_url: URL, empty: Engine) -> None:
    """Where a role may make no schema, an administrator makes it once, and the role installs."""
    tenant = empty_url.set(username=role, password="secret")
    with Admin(Config.from_dsn(plain(tenant))) as admin:
        with pytest.raises(DatabaseError, match="permission denied"):
            admin.install()
        run(empty, f"CREATE SCHEMA pgqrs AUTHORIZATION {role}")
        admin.install()
        assert admin.verify() == []
        admin.create_queue("work")
    run(empty, f"DROP OWNED BY {role}")


@pytest.mark.parametrize("schema", ["MixedCase", "order", "_9"])
def test_a_schema_may_have_a_name_that_needs_quotes(
    schema: str, empty_url: URL, empty: Engine
) -> None:
    """Install, verify, use and uninstall say the name as it was given."""
    with Admin(Config.from_dsn(plain(empty_url), schema=schema)) as admin:
        sql = admin.install(dry_run=True)
        admin.install()
        assert tables_in(empty, schema) == OURS
        assert admin.verify() == []
        admin.create_queue("work")
        assert admin.uninstall(dry_run=True).count("DROP") == len(OURS) + 1
        admin.uninstall()
        assert schema not in inspect(empty).get_schema_names()
        with psycopg.connect(plain(empty_url), autocommit=True) as connection:
            connection.execute(sql.encode())
        assert admin.verify() == []


# Alembic from a checkout.


@pytest.fixture
def alembic() -> Callable[..., str]:
    """Run `alembic` in the checkout."""

    def call(*arguments: str, **variables: str) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PGQRS", "DATABASE"))}
        done = subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env={**kept, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def test_alembic_upgrades_the_database_of_the_environment(
    alembic: Callable[..., str], empty_url: URL, engine: Engine
) -> None:
    """`alembic upgrade head` with PGQRS_DSN is `pgqrs install`, and `current` tells where it is."""
    here = {"PGQRS_DSN": plain(empty_url)}
    alembic("upgrade", "head", **here)
    assert migrations.head() in alembic("current", **here)
    with connected(empty_url) as made:
        assert shape(made) == shape(engine)


def test_alembic_takes_database_and_schema_as_arguments(
    alembic: Callable[..., str], empty_url: URL, empty: Engine
) -> None:
    """`-x dsn=… -x schema=…` goes elsewhere without touching the environment."""
    there = ("-x", f"dsn={plain(empty_url)}", "-x", "schema=Elsewhere")
    alembic(*there, "upgrade", "head")
    assert tables_in(empty, "Elsewhere") == OURS
    alembic(*there, "check")


def test_alembic_prints_sql_without_a_database(
    alembic: Callable[..., str], empty_url: URL, empty: Engine, engine: Engine
) -> None:
    """`--sql` is what `install(dry_run=True)` gives, and can be run."""
    printed = alembic("upgrade", "head", "--sql", PGQRS_DSN="postgresql://nobody@nowhere/none")
    assert printed == migrations.install(empty, dry_run=True)
    with psycopg.connect(plain(empty_url), autocommit=True) as connection:
        connection.execute(printed.encode())
    assert shape(empty) == shape(engine)
