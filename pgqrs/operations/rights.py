"""Give a role of the server what it needs for its work, and take it away again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from pgqrs.access import Access
from pgqrs.errors import DatabaseError, RoleNotFoundError, SchemaMissingError
from pgqrs.models import tables
from pgqrs.operations import views
from pgqrs.operations.views import REFUSED
from pgqrs.statements import rights as sql
from pgqrs.statements.rights import MAINTAIN, Right
from pgqrs.statements.schema_turn import schema_turn

__all__ = ["NOTE", "grant", "lacking", "revoke", "said"]

NOTE: Final = "-- "
"""What begins a line of the SQL that says in words what is not done by it."""

_MAINTAINS: Final = 17


class _Ground(NamedTuple):
    """What a grant is about, as things are."""

    rights: list[Right]
    """Those that are here to give and take."""
    beyond: list[Right]
    """Those on views of others, who alone can."""
    owned: list[str]
    """Views of the role's own."""
    notes: list[str]


def grant(connection: Connection, schema: str, access: Access, role: str, *, dry_run: bool) -> str:
    """Give a role what an access takes; to run in a transaction. Gives the SQL.

    Views of others are left to them: notes at its head say which. Raises RoleNotFoundError,
    SchemaMissingError, DatabaseError where this role may not grant, and ValueError where the other
    owns the tables.
    """
    rights, beyond, _, notes = _ground(connection, schema, [access], role, dry_run=dry_run)
    statements = list(sql.granted(schema, rights, role))
    if not dry_run:
        _execute(connection, schema, statements)
        if left := lacking(connection, schema, rights, role):
            raise DatabaseError(f"role {role!r} still lacks {said(left)}: {_WAY_OUT}", REFUSED)
        notes = _left_to_others(each.name for each in lacking(connection, schema, beyond, role))
    return _text(statements, notes)


def revoke(connection: Connection, schema: str, role: str, *, dry_run: bool) -> str:
    """Take all rights of a role away, of whatever access; to run and raising as `grant`.

    Also raises ValueError where it owns views, and DatabaseError where others granted it rights.
    Notes at the SQL's head say what it keeps through other roles.
    """
    ground = _ground(connection, schema, list(Access), role, dry_run=dry_run)
    if ground.owned:
        raise ValueError(
            f"role {role!r} owns the views {_listed(ground.owned)}, which read with its rights:"
            " first hand them over with ALTER VIEW ... OWNER TO"
        )
    statements = list(sql.revoked(schema, ground.rights, role))
    notes = ground.notes
    if not dry_run:
        _execute(connection, schema, statements)
        notes = _kept(connection, schema, ground, role)
    return _text(statements, notes)


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
    if not (asked := list(rights)):
        return []
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


def _ground(
    connection: Connection, schema: str, accesses: list[Access], role: str, *, dry_run: bool
) -> _Ground:
    """Find the rights that accesses need on all that is there, where they can be granted."""
    names = [right.name for right in sql.needed(schema, Access.ADMIN)]
    me, owned, there, others = _look_at(connection, schema, names, role)
    if tables(schema).queues.name not in there:
        raise SchemaMissingError(schema)
    if owned is None:
        raise RoleNotFoundError(role)
    if owned:
        raise ValueError(f"role {role!r} owns the tables, and has all rights by that")
    if others and not dry_run:
        raise DatabaseError(f"role {me!r} does not own {', '.join(others)}: {_WAY_OUT}", REFUSED)
    blind = dry_run and bool(lacking(connection, schema, _to_see_queues(schema)))
    shown = [] if blind else views.everyone(connection, schema)
    _, own_views, _, foreign = _look_at(connection, schema, shown, role)
    rights = [each for access in accesses for each in _needed(connection, schema, access, shown)]
    beyond = [each for each in rights if each.name in foreign and each.kind != "SCHEMA"]
    here = [each for each in rights if each.kind == "SCHEMA" or each.name in {*there, *shown}]
    if dry_run:  # whoever runs it may be allowed what this role is not
        notes = ["without views of queues, which this role may not look for"] if blind else []
        return _Ground(here, [], own_views, notes)
    return _Ground([each for each in here if each not in beyond], beyond, own_views, [])


def _look_at(connection: Connection, schema: str, names: list[str], role: str) -> tuple[Any, ...]:
    terms = {"schema": schema, "names": names, "role": role}
    return tuple(connection.execute(sql.ground(), terms).one())


def _to_see_queues(schema: str) -> list[Right]:
    queues = Right("TABLE", tables(schema).queues.name, "SELECT")
    return [Right("SCHEMA", schema, "USAGE"), queues]


def _kept(connection: Connection, schema: str, ground: _Ground, role: str) -> list[str]:
    """Say what a role has still. Raises DatabaseError where others granted it what is here."""
    foreign = {right.name for right in ground.beyond}
    names = [*foreign, *(right.name for right in ground.rights)]
    terms = {"schema": schema, "names": names, "role": role}
    found = connection.execute(sql.holders(), terms).all()
    own = [row for row in found if row[1]]
    if left := [row for row in own if row[2] not in foreign]:
        rights = said(Right("", name, verb) for _, _, name, verb, _ in left)
        raise DatabaseError(
            f"role {role!r} still has {rights}, granted by"
            f" {_listed(repr(row[4]) for row in left)}: let that role revoke it",
            REFUSED,
        )
    notes = _left_to_others(row[2] for row in own)
    if through := _listed(row[0] for row in found if not row[1]):
        notes.append(f"it has rights still through {through}")
    return notes


def _left_to_others(names: Iterable[str]) -> list[str]:
    listed = _listed(names)
    return [f"left to the owners of these views: {listed}"] if listed else []


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))


def _execute(connection: Connection, schema: str, statements: list[str]) -> None:
    connection.execute(schema_turn(schema))  # two at once would clash
    for statement in statements:
        connection.execute(sql.executable(statement))


def _text(statements: list[str], notes: list[str]) -> str:
    said_first = "".join(f"{NOTE}{' '.join(note.split())}\n" for note in notes)
    return said_first + "".join(f"{statement};\n" for statement in statements)
