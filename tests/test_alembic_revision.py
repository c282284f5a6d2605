"""One line in a revision of an application brings pgqrs's tables, and another takes them away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from application import MODELS, Application
from shape import OURS, connected, plain, run, shape, tables_in
from sqlalchemy import URL, Engine, inspect, text

from pgqrs import Admin, Config, SchemaError, migrations
from pgqrs.migrations import Door, Installed, scripts
from pgqrs.types import Finding

pytestmark = pytest.mark.matrix

UP = 'migrations.upgrade("pgqrs_0002")'
DOWN = 'migrations.downgrade(None, from_="pgqrs_0002")'
ORDERS = 'op.create_table("{0}", sa.Column("id", sa.Integer, primary_key=True))'
CONVENTION = """
from sqlalchemy import MetaData
Base.metadata.naming_convention = {
    **{key: f"{key}_%(table_name)s_%(constraint_name)s" for key in ("ix", "uq", "ck", "fk")},
    "pk": "pk_%(table_name)s",
}
"""
NEXT = '''
"""A column more, as a later version of pgqrs might bring.

Revises: pgqrs_0002
"""

import sqlalchemy as sa
from alembic import op

revision = "pgqrs_0003"
down_revision = "pgqrs_0002"


def upgrade(schema: str = "pgqrs") -> None:
    op.add_column("pgqrs_queues", sa.Column("more", sa.Integer), schema=schema)


def downgrade(schema: str = "pgqrs") -> None:
    op.drop_column("pgqrs_queues", "more", schema=schema)
'''


@pytest.fixture
def empty(empty_url: URL) -> Iterator[Engine]:
    with connected(empty_url) as engine:
        yield engine


@pytest.fixture
def app(tmp_path: Path, empty_url: URL) -> Application:
    """An application whose second revision has pgqrs's line between operations of its own."""
    app = Application(tmp_path, empty_url)
    app.add("first", ORDERS.format("orders"), 'op.drop_table("orders")')
    up = f"{ORDERS.format('before')}\n    {UP}\n    {ORDERS.format('after')}"
    down = f'op.drop_table("after")\n    {DOWN}\n    op.drop_table("before")'
    app.add("second", up, down)
    app.add("third", ORDERS.format("invoices"), 'op.drop_table("invoices")')
    return app


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of pgqrs with a second revision."""
    folder = tmp_path / "newer"
    shutil.copytree(scripts.script_location(), folder)
    (folder / "versions" / "pgqrs_0003_more.py").write_text(NEXT.lstrip())
    monkeypatch.setattr(scripts, "script_location", lambda: folder)


def found(engine: Engine, schema: str = "pgqrs") -> Installed | None:
    with engine.connect() as connection:
        return migrations.installed(connection, schema)


def findings(url: URL, schema: str = "pgqrs") -> list[Finding]:
    with Admin(Config.from_dsn(plain(url), schema=schema)) as admin:
        return admin.verify()


def test_a_line_brings_the_tables_with_the_applications_own(
    app: Application, empty: Engine, engine: Engine
) -> None:
    """What stands around it and in the next revision works, and the tables are as ever."""
    app.alembic("upgrade", "head")
    assert shape(empty) == shape(engine)
    assert tables_in(empty, "public") == {
        "alembic_version",
        "orders",
        "before",
        "after",
        "invoices",
    }
    assert found(empty) == Installed(Door.REVISION, "pgqrs_0002", "alembic_version")
    assert findings(app.url) == []
    assert run(empty, "SELECT version_num FROM alembic_version") == [("third",)]


def test_downgrading_leaves_nothing(app: Application, empty: Engine) -> None:
    """Tables, record and schema are gone, and come again."""
    app.alembic("upgrade", "head")
    app.alembic("downgrade", "first")
    assert tables_in(empty, "public") == {"alembic_version", "orders"}
    assert "pgqrs" not in inspect(empty).get_schema_names()
    assert found(empty) is None
    app.alembic("upgrade", "head")
    assert findings(app.url) == []


def test_the_sql_does_the_same(
    app: Application, empty: Engine, empty_url: URL, engine: Engine
) -> None:
    """`alembic upgrade --sql` can be reviewed and run, and so can the way back."""
    up = app.alembic("upgrade", "head", sql=True)
    down = app.alembic("downgrade", "third:base", sql=True)
    assert tables_in(empty, "public") == set()
    with psycopg.connect(plain(empty_url), autocommit=True) as connection:
        connection.execute(up.encode())
        assert shape(empty) == shape(engine)
        assert found(empty) == Installed(Door.REVISION, "pgqrs_0002", "alembic_version")
        assert findings(app.url) == []
        connection.execute(down.encode())
    assert tables_in(empty, "public") <= {"alembic_version"}
    assert "pgqrs" not in inspect(empty).get_schema_names()


@pytest.mark.parametrize("schema", ["jobs", "Mixed", "public"])
def test_any_schema_will_do(schema: str, tmp_path: Path, empty_url: URL, empty: Engine) -> None:
    """Also one that needs quotes, and one that the application uses as well."""
    app = Application(tmp_path, empty_url)
    app.add(
        "first",
        f'migrations.upgrade("pgqrs_0002", schema="{schema}")',
        f'migrations.downgrade(None, from_="pgqrs_0002", schema="{schema}")',
    )
    app.alembic("upgrade", "head")
    assert tables_in(empty, schema) - {"alembic_version"} == OURS
    assert findings(app.url, schema) == []
    app.alembic("downgrade", "base")
    assert tables_in(empty, schema) <= {"alembic_version"}
    assert (schema in inspect(empty).get_schema_names()) == (schema == "public")


def test_a_schema_with_other_things_stays(app: Application, empty: Engine) -> None:
    """Only what pgqrs made is taken away."""
    run(empty, "CREATE SCHEMA pgqrs")
    run(empty, "CREATE TABLE pgqrs.theirs (id int)")
    app.alembic("upgrade", "head")
    app.alembic("downgrade", "base")
    assert tables_in(empty) == {"theirs"}


def test_a_naming_convention_of_the_application_names_nothing_of_ours(
    tmp_path: Path, empty_url: URL, empty: Engine, engine: Engine
) -> None:
    """Alembic applies it to whatever has no final name."""
    app = Application(tmp_path, empty_url, models=MODELS + CONVENTION)
    app.add("first", UP, DOWN)
    app.alembic("upgrade", "head")
    assert shape(empty) == shape(engine)
    app.alembic("downgrade", "base")


def test_a_role_that_may_make_no_schema_uses_one_that_is_there(
    app: Application, role: str, empty: Engine
) -> None:
    """The schema is looked for before it is made, and left where it is somebody else's."""
    run(empty, "CREATE SCHEMA pgqrs")
    run(empty, f"GRANT ALL ON SCHEMA pgqrs, public TO {role}")
    app.url = app.url.set(username=role, password="secret")
    try:
        app.alembic("upgrade", "head")
        assert tables_in(empty) == OURS
        app.alembic("downgrade", "base")
        assert tables_in(empty) == set()
        assert "pgqrs" in inspect(empty).get_schema_names()
    finally:
        run(empty, f"DROP OWNED BY {role}")


# A later version of pgqrs.


@pytest.mark.usefixtures("newer")
def test_a_second_line_goes_on_from_the_first(app: Application, empty: Engine) -> None:
    """Each line runs the revisions between the two that it names, both ways."""
    line = 'migrations.upgrade("pgqrs_0003", from_="pgqrs_0002")'
    app.add("fourth", line, 'migrations.downgrade("pgqrs_0002", from_="pgqrs_0003")')
    app.alembic("upgrade", "third")
    (behind,) = findings(app.url)
    assert (
        behind.message == "the tables are at revision pgqrs_0002, and this pgqrs needs pgqrs_0003"
    )
    assert line in behind.remedy
    app.alembic("upgrade", "head")
    assert found(empty) == Installed(Door.REVISION, "pgqrs_0003", "alembic_version")
    assert "more" in columns(empty)
    app.alembic("downgrade", "-1")
    assert found(empty) == Installed(Door.REVISION, "pgqrs_0002", "alembic_version")
    assert "more" not in columns(empty)


@pytest.mark.usefixtures("newer")
def test_one_line_may_bring_several_revisions(
    tmp_path: Path, empty_url: URL, empty: Engine
) -> None:
    """An application that begins late has one line."""
    app = Application(tmp_path, empty_url)
    down = 'migrations.downgrade(None, from_="pgqrs_0003")'
    app.add("first", 'migrations.upgrade("pgqrs_0003")', down)
    app.alembic("upgrade", "head")
    assert found(empty) == Installed(Door.REVISION, "pgqrs_0003", "alembic_version")
    assert "more" in columns(empty)
    app.alembic("downgrade", "base")
    assert "pgqrs" not in inspect(empty).get_schema_names()


def columns(engine: Engine) -> set[str]:
    described = inspect(engine).get_columns("pgqrs_queues", schema="pgqrs")
    return {column["name"] for column in described}


# What is refused.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('migrations.upgrade("pgqrs_0099")', "knows no revision 'pgqrs_0099'.* upgrade the pgqrs"),
        ('migrations.upgrade("head")', "'head' moves with the package: name one"),
        (
            'migrations.upgrade("pgqrs_0002", from_="pgqrs_0002")',
            "are not there, and .* right from_",
        ),
        (
            'migrations.downgrade("pgqrs_0002", from_=None)',
            "pgqrs_0002 comes after the empty schema",
        ),
        ('migrations.upgrade("pgqrs_0002", schema="no; DROP")', "a schema name is"),
    ],
)
def test_a_wrong_line_changes_nothing(
    line: str, message: str, tmp_path: Path, empty_url: URL, empty: Engine
) -> None:
    """It is told with the way out, and the whole revision is undone."""
    app = Application(tmp_path, empty_url)
    app.add("first", f"{ORDERS.format('orders')}\n    {line}")
    with pytest.raises((SchemaError, ValueError), match=message):
        app.alembic("upgrade", "head")
    assert "orders" not in tables_in(empty, "public")


def test_a_line_twice_is_told(app: Application, empty: Engine) -> None:
    """A second one that begins at nothing would make the tables again: it finds them made."""
    app.add("fourth", UP, DOWN)
    before = app.alembic("upgrade", "third") or shape(empty)
    app.alembic("upgrade", "head")
    assert shape(empty) == before
    app.alembic("downgrade", "third")
    with pytest.raises(
        SchemaError, match=r"are not there, and this revision .* begins at pgqrs_0002"
    ):
        app.alembic("downgrade", "first")


def test_install_leaves_to_the_application_what_is_the_applications(
    app: Application, empty: Engine
) -> None:
    """It names who keeps the tables, and the way to go."""
    app.alembic("upgrade", "head")
    before = shape(empty)
    with Admin(Config.from_dsn(plain(app.url))) as admin:
        for change in (admin.install, admin.uninstall):
            with pytest.raises(SchemaError) as error:
                change()
            assert "revisions of the application (alembic_version), at revision pgqrs_0002" in str(
                error.value
            )
            assert "`pgqrs --schema pgqrs alembic adopt --undo`" in str(error.value)
    assert shape(empty) == before


def test_a_line_leaves_to_install_what_install_made(app: Application, empty: Engine) -> None:
    """Nothing of the application's revision is done either."""
    migrations.install(empty)
    with pytest.raises(
        SchemaError, match=r"kept by `pgqrs install`, at revision pgqrs_0002: .*adopt"
    ):
        app.alembic("upgrade", "head")
    assert tables_in(empty, "public") <= {"alembic_version"}


def test_tables_can_be_handed_over_and_back(app: Application, empty: Engine) -> None:
    """With all they hold: the line then finds them made, and the way back is open."""
    with Admin(Config.from_dsn(plain(app.url))) as admin:
        admin.install()
        admin.create_queue("work")
        before = shape(empty)
        with empty.begin() as connection:
            migrations.adopt(connection)
        app.alembic("upgrade", "head")
        assert [queue.queue_name for queue in admin.list_queues()] == ["work"]
        assert shape(empty) == before
        with pytest.raises(SchemaError, match="kept by revisions of the application"):
            admin.install()
        with empty.begin() as connection:
            migrations.adopt(connection, undo=True)
        admin.install()
        admin.uninstall()
    assert found(empty) is None


def test_an_empty_record_is_no_installation(app: Application, empty: Engine) -> None:
    """A downgrade of pgqrs's own history leaves its version table: told, with the way out."""
    migrations.install(empty)
    for table in ("keys", "archive", "messages", "workers", "queues"):
        run(empty, f"DROP TABLE pgqrs.pgqrs_{table}")
    run(empty, "DELETE FROM pgqrs.pgqrs_version")
    with empty.begin() as connection, pytest.raises(SchemaError, match="no pgqrs tables"):
        migrations.adopt(connection)
    with pytest.raises(SchemaError, match="`pgqrs --schema pgqrs uninstall`"):
        app.alembic("upgrade", "head")
    migrations.uninstall(empty)
    app.alembic("upgrade", "head")
    assert findings(app.url) == []


def test_what_is_not_there_cannot_be_handed_over(empty: Engine) -> None:
    """Nor what was never recorded."""
    with empty.begin() as connection, pytest.raises(SchemaError, match="no pgqrs tables"):
        migrations.adopt(connection, "elsewhere")


def test_the_lock_is_held_while_a_line_runs(app: Application, empty: Engine) -> None:
    """Two instances that upgrade at once take turns."""
    with empty.connect().execution_options(isolation_level="READ COMMITTED") as other:
        with other.begin():
            migrations.lock(other, "pgqrs")
            app.url = app.url.update_query_dict({"options": "-clock_timeout=300"})
            with pytest.raises(Exception, match="lock timeout"):
                app.alembic("upgrade", "head")
        app.alembic("upgrade", "head")
        assert other.scalar(text("SELECT count(*) FROM pgqrs.pgqrs_queues")) == 0
