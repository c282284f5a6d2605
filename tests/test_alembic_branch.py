"""pgqrs's revisions as a branch of an application's history, with the traps that the docs name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.util import CommandError
from application import Application
from shape import OURS, connected, plain, run, shape, tables_in
from sqlalchemy import URL, Engine, inspect

from pgqrs import Admin, Config, SchemaError, migrations, verification
from pgqrs.migrations import Door, Installed
from pgqrs.types import Finding

pytestmark = pytest.mark.matrix

TABLES = OURS - {"pgqrs_version"}


@pytest.fixture
def empty(empty_url: URL) -> Iterator[Engine]:
    with connected(empty_url) as engine:
        yield engine


@pytest.fixture
def app(tmp_path: Path, empty_url: URL) -> Application:
    """An application with pgqrs's revisions as a second version location."""
    options = "include_schemas=True, include_object=migrations.include_object()"
    app = Application(tmp_path, empty_url, options=options)
    app.locations.append(migrations.script_location() / "versions")
    return app


@pytest.fixture
def begun(app: Application, empty: Engine) -> Application:
    """The same, with a first revision of its own where it belongs, and nothing in the database.

    Alembic compares only where every branch is at its head.
    """
    app.alembic("upgrade", "pgqrs@head")
    app.generate("first", head="base", version_path=str(app.locations[0]), branch_label="app")
    app.alembic("downgrade", "pgqrs@base")
    run(empty, "DROP SCHEMA pgqrs")
    run(empty, "DROP TABLE alembic_version")
    return app


def findings(url: URL) -> list[Finding]:
    with Admin(Config.from_dsn(plain(url))) as admin:
        return admin.verify()


def test_a_branch_brings_the_tables(begun: Application, empty: Engine, engine: Engine) -> None:
    """Both branches go to their heads, the version table of the application has both."""
    begun.alembic("upgrade", "heads")
    made, wanted = shape(empty), shape(engine)
    for what, rows in wanted.items():
        assert made[what] == [row for row in rows if "pgqrs_version" not in str(row)]
    assert tables_in(empty) == TABLES
    versions = run(empty, "SELECT version_num FROM alembic_version ORDER BY 1")
    assert versions == [("first",), ("pgqrs_0002",)]
    with empty.connect() as connection:
        kept = Installed(Door.BRANCH, "pgqrs_0002", "public.alembic_version")
        assert migrations.installed(connection) == kept
    assert findings(begun.url) == []
    begun.alembic("check")


def test_a_branch_can_be_taken_back_alone(begun: Application, empty: Engine) -> None:
    """By its label; the schema stays, because nothing says who made it."""
    begun.alembic("upgrade", "heads")
    begun.alembic("downgrade", "pgqrs@base")
    assert tables_in(empty) == set()
    assert tables_in(empty, "public") == {"alembic_version", "orders"}
    begun.alembic("upgrade", "pgqrs@head")
    assert findings(begun.url) == []


def test_a_branch_prints_sql(begun: Application, empty: Engine, empty_url: URL) -> None:
    """The schema is made there too."""
    printed = begun.alembic("upgrade", "heads", sql=True)
    assert "pgqrs" not in inspect(empty).get_schema_names()
    with psycopg.connect(plain(empty_url), autocommit=True) as connection:
        connection.execute(printed.encode())
    assert findings(begun.url) == []


def test_later_revisions_name_their_branch(begun: Application, empty: Engine) -> None:
    """And may depend on pgqrs's, where they refer to its tables."""
    begun.alembic("upgrade", "heads")
    with pytest.raises(CommandError, match="Multiple heads are present"):
        begun.alembic("revision", "second")
    second = begun.generate("second", head="app@head", depends_on="pgqrs_0002")
    assert "Revises: first\n" in second
    begun.alembic("upgrade", "heads")
    begun.alembic("downgrade", "base")
    assert tables_in(empty) == set()


def test_a_first_revision_would_be_written_among_pgqrss(app: Application, tmp_path: Path) -> None:
    """What the docs warn of: Alembic takes our head for the one to go on from."""
    ours = tmp_path / "ours"
    ours.mkdir()
    for path in app.locations[1].glob("*.py"):
        (ours / path.name).write_text(path.read_text())
    app.locations[1] = ours
    app.alembic("revision", "first")
    (astray,) = ours.glob("*_first.py")
    assert "= 'pgqrs_0002'" in astray.read_text()
    astray.unlink()
    with pytest.raises(CommandError, match="please specify --version-path"):
        app.alembic("revision", "first", head="base")


def test_other_doors_are_closed(
    begun: Application, empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`install`, `uninstall` and a line in a revision say whose the tables are."""
    begun.alembic("upgrade", "heads")
    before = shape(empty)
    for change in (migrations.install, migrations.uninstall):
        with pytest.raises(SchemaError) as error:
            change(empty)
        said = str(error.value)
        assert "kept by a branch of the application's history (public.alembic_version)" in said
        assert "`alembic upgrade pgqrs@head`" in said
    with empty.begin() as connection, pytest.raises(SchemaError, match="kept by a branch"):
        migrations.adopt(connection)
    begun.add("line", 'migrations.upgrade("pgqrs_0002")')
    with pytest.raises(SchemaError, match="kept by a branch"):
        begun.alembic("upgrade", "heads")
    assert shape(empty) == before
    monkeypatch.setattr(verification, "head", lambda: "pgqrs_9999")
    (finding,) = findings(begun.url)
    assert finding.remedy == "alembic upgrade pgqrs@head, in the application"


def test_version_tables_of_strangers_are_no_hindrance(
    begun: Application, empty: Engine, role: str
) -> None:
    """Others may have histories in the same database, and need not show them to us."""
    run(empty, "CREATE SCHEMA aaa")
    run(empty, "CREATE TABLE aaa.alembic_version (version_num varchar(32))")
    run(empty, "CREATE TABLE aaa.numbers (version_num int)")
    run(empty, "CREATE SCHEMA bbb")
    run(empty, "CREATE TABLE bbb.alembic_version (version_num varchar(32))")
    run(empty, f"GRANT SELECT ON bbb.alembic_version TO {role}")
    begun.alembic("upgrade", "heads")
    try:
        run(empty, f"GRANT ALL ON SCHEMA pgqrs, public TO {role}")
        run(empty, f"GRANT ALL ON ALL TABLES IN SCHEMA pgqrs, public TO {role}")
        assert findings(begun.url.set(username=role, password="secret")) == []
        assert findings(begun.url) == []
    finally:
        run(empty, f"DROP OWNED BY {role}")
