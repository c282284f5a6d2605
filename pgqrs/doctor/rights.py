"""What the role may do with the tables, and which work that is enough for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.access import Access
from pgqrs.doctor.check import Terms, command, error, note
from pgqrs.models import tables
from pgqrs.operations import rights
from pgqrs.statements import diagnosis as sql
from pgqrs.statements.rights import MAINTAIN, Right, needed
from pgqrs.types import Finding

__all__ = ["may_read", "of_rights"]

# Where several are as near, the first is meant.
_ACCESSES: Final = (Access.CONSUMER, Access.PRODUCER, Access.ADMIN, Access.READONLY)
_AS: Final = {
    Access.CONSUMER: "a consumer",
    Access.PRODUCER: "a producer",
    Access.ADMIN: "an admin",
    Access.READONLY: "a reader",
}
_VACUUMS: Final = {Access.CONSUMER, Access.ADMIN}


def may_read(connection: Connection, terms: Terms) -> bool:
    """Say whether this role may read all there is of pgqrs's tables."""
    lacking = _lacking(connection, terms, Access.READONLY)
    return all(right.kind == "SEQUENCE" for right in lacking)


def of_rights(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say what this role lacks to produce, to consume, and to look after queues."""
    looked = connection.execute(sql.role(), _parameters(terms)).one_or_none()
    if looked is None:  # there are no tables
        return
    role, may_vacuum = looked
    lacks = {access: _lacking(connection, terms, access) for access in _ACCESSES}
    whole = [access for access in _ACCESSES if not lacks[access]]
    if not whole:
        near = min(_ACCESSES, key=lambda access: len(lacks[access]) / len(_all(terms, access)))
        message = f"role {role} lacks, to be {_AS[near]}, {rights.said(lacks[near])}"
        yield error(message, _grant(terms, near, role))
    elif Access.ADMIN not in whole:
        names = " and ".join(_AS[access] for access in whole)
        more = f"as the owner of the tables, {_grant(terms, Access.ADMIN, role)}"
        yield note(f"role {role} may do what {names} may, and no more", more)
    if _VACUUMS & set(whole) and not may_vacuum:
        name = tables(terms.schema).messages.name
        again = f"from PostgreSQL 17 on, {_grant(terms, Access.CONSUMER, role)}"
        yield note(f"role {role} may not vacuum {name}: autovacuum does it alone", again)


def _lacking(connection: Connection, terms: Terms, access: Access) -> list[Right]:
    return rights.lacking(connection, terms.schema, _all(terms, access))


def _all(terms: Terms, access: Access) -> list[Right]:
    return [right for right in needed(terms.schema, access) if right.verb != MAINTAIN]


def _grant(terms: Terms, access: Access, role: str) -> str:
    return command(terms, f"grant {access} {shlex.quote(role)}")


def _parameters(terms: Terms) -> dict[str, Any]:
    return {"schema": terms.schema, "name": tables(terms.schema).messages.name}
