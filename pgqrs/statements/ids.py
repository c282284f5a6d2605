"""Ids that are given out anew: sequences that stand behind the rows, as after a restore."""

from __future__ import annotations

from sqlalchemy import Executable, text

from pgqrs.models import Tables
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.system import named

__all__ = ["bump", "looked_at"]


@per_schema
def looked_at(t: Tables) -> Executable:
    """Give of each table with ids (name, last id given, highest id in use).

    The last id is null where this role may not see it, and 0 where none was given.
    """
    return text(f"SELECT name, last, highest FROM ({_ids(t)}) AS ids")


@per_schema
def bump(t: Tables) -> Executable:
    """Move the sequences that are behind past the highest id; gives (name, highest id) of each."""
    return text(
        f"SELECT name, setval(sequence::regclass, highest) FROM ({_ids(t)}) AS ids"
        " WHERE highest > last"
    )


def _ids(t: Tables) -> str:
    # A message keeps its id in the archive, whose key begins with the queue.
    history = (
        f"SELECT max(newest.id) FROM {named(t.queues)} AS q CROSS JOIN LATERAL ("
        f"SELECT a.id FROM {named(t.archive)} AS a WHERE a.queue_id = q.id"
        " ORDER BY a.id DESC LIMIT 1) AS newest"
    )
    highest = {
        t.queues: f"(SELECT max(id) FROM {named(t.queues)})",
        t.workers: f"(SELECT max(id) FROM {named(t.workers)})",
        t.messages: f"greatest((SELECT max(id) FROM {named(t.messages)}), ({history}))",
    }
    rows = " UNION ALL ".join(
        f"SELECT '{table.name}' AS name, {most} AS highest,"
        f" pg_get_serial_sequence('{named(table)}', 'id') AS sequence"
        for table, most in highest.items()
    )
    last = (
        "CASE WHEN has_sequence_privilege(sequence, 'SELECT')"
        " THEN coalesce(pg_sequence_last_value(sequence::regclass), 0) END AS last"
    )
    return f"SELECT name, sequence, highest, {last} FROM ({rows}) AS every"
