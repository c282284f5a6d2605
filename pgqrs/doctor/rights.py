"""What the role may do with the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from pgqrs.doctor.check import Terms, error, note, warning
from pgqrs.migrations import VERSION_TABLE
from pgqrs.models import tables
from pgqrs.statements import diagnosis as sql
from pgqrs.types import Finding

__all__ = ["may_read", "of_rights"]


def may_read(connection: Connection, terms: Terms) -> bool:
    """Say whether this role may read all there is of pgqrs's tables."""
    rows = connection.execute(sql.rights(), _parameters(terms))
    return all(may_use and "SELECT" not in lacking for _, may_use, _, lacking, _ in rows)


def of_rights(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say what this role lacks to produce, to consume, and to look after queues."""
    ours = tables(terms.schema)
    for role, may_use, name, lacking, may_vacuum in connection.execute(
        sql.rights(), _parameters(terms)
    ):
        if not may_use:
            remedy = f'GRANT USAGE ON SCHEMA "{terms.schema}" TO "{role}"'
            yield error(f"role {role} may not use schema {terms.schema!r}", remedy)
            return
        full = f'"{terms.schema}".{name}'
        only_read = name == VERSION_TABLE
        wanted = [right for right in lacking if right == "SELECT" or not only_read]
        if wanted:
            what = ", ".join(wanted)
            tell = warning if name == ours.queues.name and "SELECT" not in wanted else error
            message = f"role {role} lacks {what} on {name}"
            yield tell(message, f'GRANT {what} ON {full} TO "{role}"')
        if name == ours.messages.name and not may_vacuum:
            yield note(
                f"role {role} may not vacuum {name}: autovacuum does it alone",
                f'from PostgreSQL 17 on, GRANT MAINTAIN ON {full} TO "{role}"',
            )


def _parameters(terms: Terms) -> dict[str, Any]:
    names = [table.name for table in tables(terms.schema)]
    return {"schema": terms.schema, "names": [*names, VERSION_TABLE]}
