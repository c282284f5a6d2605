"""What type checkers must see of migrations in an application's history; never run."""

from pathlib import Path
from typing import Any, assert_type

from alembic import context
from sqlalchemy import Connection, MetaData

from pgqrs import migrations, models


def revision() -> None:
    migrations.upgrade("pgqrs_0001")
    migrations.upgrade("pgqrs_0002", from_="pgqrs_0001", schema="jobs")
    migrations.downgrade(None, from_="pgqrs_0001")
    migrations.downgrade("pgqrs_0001")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def own(name: str | None, type_: str, parent_names: Any) -> bool:
    return bool(name and type_ and parent_names)


def environment(connection: Connection, metadata: MetaData) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=migrations.include_name(own, schema="jobs"),
        include_object=migrations.include_object(),
    )
    assert_type(models.include(metadata), models.Tables)


def record(connection: Connection) -> None:
    found = migrations.installed(connection)
    assert_type(found, migrations.Installed | None)
    if found:
        assert_type(found.door, migrations.Door)
        assert_type(found.revision, str | None)
    migrations.adopt(connection, "jobs", undo=True)
    assert_type(migrations.head(), str)
    assert_type(migrations.script_location(), Path)
