"""Give a role of the server what it needs for its work, and take it away again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.access import Access
from pgqrs.errors import DatabaseError, RoleNotFoundError, SchemaMissingError
from pgqrs.models import tables
from pgqrs.operations import views
from pgqrs.statements import rights as sql
from pgqrs.statements.rights import MAINTAIN, Right
from pgqrs.statements.schema_turn import schema_turn

__all__ = ["grant", "lacking", "revoke", "said"]

_MAINTAINS: Final = 17
_REFUSED: Final = "42501"


def grant(connection: Connection, schema: str, access: Access, role: str, *, dry_run: bool) -> str:
    """Give a role what an access takes; to run in a transaction. Gives the SQL.

    Raises RoleNotFoundError, SchemaMissingError, DatabaseError where this role may not grant, and
    ValueError where the other owns the tables.
    """
    rights = _there(connection, schema, [access], role, dry_run=dry_run)
    statements = list(sql.granted(schema, rights, role))
    if not dry_run:
        _execute(connection, schema, statements)
        if left := lacking(connection, schema, rights, role):
            raise DatabaseError(f"role {role!r} still lacks {said(left)}: {_WAY_OUT}", _REFUSED)
    return _text(statements)


def revoke(connection: Connection, schema: str, role: str, *, dry_run: bool) -> str:
    """Take all rights of a role away, of whatever access; to run and raising as `grant`."""
    rights = _there(connection, schema, list(Access), role, dry_run=dry_run)
    statements = list(sql.revoked(schema, rights, role))
    if not dry_run:
        _execute(connection, schema, statements)
    return _text(statements)


def _needed(
    connection: Connection, schema: str, access: Access, views: Iterable[str] = ()
) -> list[Right]:
    """Give what an access takes on this server."""
    version = int(connection.dialect.server_version_info[0])  # type: ignore[index]
    rights = sql.needed(schema, access, views)
    return [right for right in rights if right.verb != MAINTAIN or version >= _MAINTAINS]


def lacking(
    connection: Connection, schema: str, rights: Iterable[Right], role: str | None = None
) -> list[Right]:
    """Give those rights that a role, or this one, has not; what is not there is not lacking."""
    asked = list(rights)
    kinds, names, verbs, columns = (list(part) for part in zip(*asked, strict=True))
    parts = {"kinds": kinds, "names": names, "verbs": verbs, "columns": columns}
    found = connection.execute(sql.lacking(), {"schema": schema, "role": role, **parts})
    return [asked[place - 1] for place in found.scalars()]


def said(rights: Iterable[Right]) -> str:
    """Say rights in words: what may not be done on what."""
    by_name: dict[str, dict[str, Any]] = {}
    for right in rights:
        by_name.setdefault(right.name, {})[right.verb] = None
    return ", ".join(f"{' and '.join(verbs)} on {name}" for name, verbs in by_name.items())


_WAY_OUT: Final = (
    "let the owner of the tables and of their schema do this, or hand over what --dry-run prints"
)


def _there(
    connection: Connection, schema: str, accesses: list[Access], role: str, *, dry_run: bool
) -> list[Right]:
    """Give the rights that accesses need on all that is there, where they can be granted."""
    names = [right.name for right in sql.needed(schema, Access.ADMIN)]
    terms = {"schema": schema, "names": names, "role": role}
    me, owned, there, others = connection.execute(sql.ground(), terms).one()
    if tables(schema).queues.name not in there:
        raise SchemaMissingError(schema)
    if owned is None:
        raise RoleNotFoundError(role)
    if owned:
        raise ValueError(f"role {role!r} owns the tables, and has all rights by that")
    if others and not dry_run:
        raise DatabaseError(f"role {me!r} does not own {', '.join(others)}: {_WAY_OUT}", _REFUSED)
    shown = views.everyone(connection, schema)
    rights = [each for access in accesses for each in _needed(connection, schema, access, shown)]
    return [each for each in rights if each.kind == "SCHEMA" or each.name in {*there, *shown}]


def _execute(connection: Connection, schema: str, statements: list[str]) -> None:
    connection.execute(schema_turn(schema))  # two at once would clash
    for statement in statements:
        connection.execute(sql.executable(statement))


def _text(statements: list[str]) -> str:
    return "".join(f"{statement};\n" for statement in statements)
