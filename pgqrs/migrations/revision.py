"""pgqrs's revisions as a line in a revision of an application, under the application's own `op`.

Works where `op` works: online, with `--sql`, upgrading and downgrading. It never configures
Alembic, so what stands before and after the line goes on as before.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, PrimaryKeyConstraint, String, column
from sqlalchemy import table as sql_table
from sqlalchemy.schema import DropSchema

from pgqrs.config import validated_schema
from pgqrs.errors import SchemaError
from pgqrs.migrations.ground import is_free, lock
from pgqrs.migrations.record import VERSION_TABLE, Door, check_door, installed, kept_in
from pgqrs.migrations.scripts import steps
from pgqrs.models import DEFAULT_SCHEMA

__all__ = ["downgrade", "downgrade_line", "upgrade", "upgrade_line"]


def upgrade(to: str, *, from_: str | None = None, schema: str | None = None) -> None:
    """Bring pgqrs's tables from one of its revisions to another; in `upgrade()` of yours.

    `to` and `from_` are names like "pgqrs_0001"; without `from_` there is nothing yet, and the
    schema (pgqrs, unless named) is made as well. What `pgqrs alembic adopt` handed over is not
    made again. Raises SchemaError for a revision that this pgqrs does not know, and, but for
    `--sql`, where the tables are elsewhere or came by another way.
    """
    named = validated_schema(schema or DEFAULT_SCHEMA)
    path = steps(from_, to)
    present = from_ if _prints() else _present(named)
    names = [script.revision for script in path]
    if present in names:
        path = path[names.index(present) + 1 :]
    elif present != from_:
        raise SchemaError(_elsewhere(named, present, from_))
    for script in path:
        script.module.upgrade(named)
    if path:
        _note(to, named, anew=present is None)


def downgrade(to: str | None, *, from_: str, schema: str | None = None) -> None:
    """Take pgqrs's tables back to one of its revisions; in `downgrade()` of yours.

    With None for `to` they are dropped, with all they hold, and the schema if it is empty then.
    Raises SchemaError as `upgrade` does.
    """
    named = validated_schema(schema or DEFAULT_SCHEMA)
    path = steps(to, from_)
    present = from_ if _prints() else _present(named)
    if present != from_:
        raise SchemaError(_elsewhere(named, present, from_))
    for script in reversed(path):
        script.module.downgrade(named)
    if to is None:
        _forget(named)
    elif path:
        _note(to, named, anew=False)


def upgrade_line(from_: str | None, to: str, schema: str) -> str:
    """Give the line that brings the tables from one revision to another, as Python."""
    return _line("upgrade", to, from_, schema)


def downgrade_line(from_: str, to: str | None, schema: str) -> str:
    """Give the line that takes the tables back, as Python."""
    return _line("downgrade", to, from_, schema)


def _line(name: str, to: str | None, from_: str | None, schema: str) -> str:
    words = [f'"{to}"' if to else "None"]
    words += [f'from_="{from_}"'] if from_ else []
    words += [f'schema="{schema}"'] if schema != DEFAULT_SCHEMA else []
    return f"migrations.{name}({', '.join(words)})"


def _prints() -> bool:
    return bool(op.get_context().as_sql)


def _present(schema: str) -> str | None:
    """Wait for our turn, then give the revision that is there."""
    connection = op.get_bind()
    lock(connection, schema)
    check_door(connection, schema, Door.REVISION)
    found = installed(connection, schema)
    return found.revision if found else None


def _elsewhere(schema: str, present: str | None, wanted: str | None) -> str:
    there = f"are at revision {present}" if present else "are not there"
    begins = f"begins at {wanted}" if wanted else "begins where there are none"
    return (
        f"the pgqrs tables in schema {schema!r} {there}, and this revision of the application"
        f" {begins}: give it the right from_, or mark what is done with `alembic stamp`"
    )


def _note(revision: str, schema: str, *, anew: bool) -> None:
    versions = sql_table(VERSION_TABLE, column("version_num"), schema=schema)
    values = {"version_num": op.inline_literal(revision)}
    if not anew:
        op.execute(versions.update().values(values))
        return
    context = op.get_context()
    theirs = [context.version_table_schema, context.version_table]
    op.create_table(
        VERSION_TABLE,
        Column("version_num", String(32), nullable=False),
        PrimaryKeyConstraint("version_num", name=op.f(f"{VERSION_TABLE}_pkc")),
        schema=schema,
        comment=kept_in(".".join(filter(None, theirs))),
    )
    op.execute(versions.insert().values(values))


def _forget(schema: str) -> None:
    op.drop_table(VERSION_TABLE, schema=schema)
    if schema != "public" and (_prints() or is_free(op.get_bind(), schema, set())):
        op.execute(DropSchema(schema))
