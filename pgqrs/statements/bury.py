"""Move messages without an attempt left to the archive, whoever comes across them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    ScalarSelect,
    Select,
    Text,
    any_,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import Tables
from pgqrs.statements.columns import LEAVING
from pgqrs.statements.dead_letter import copied

__all__ = ["buried", "dead", "exhausted"]

_AS_THEY_ARE = tuple(name for name in LEAVING if name != "payload")
_LAST_LEASE_RAN_OUT = literal_column("'\"the lease of the last attempt ran out\"'::jsonb", JSONB)


def exhausted(t: Tables, limit_of_queue: ScalarSelect[int]) -> ColumnElement[bool]:
    """Say that a message's attempts have reached its limit, or else that of its queue."""
    m = t.messages
    return m.c.read_ct - m.c.returned_ct >= func.coalesce(m.c.max_attempts, limit_of_queue)


def dead(t: Tables, chosen: Select[Any]) -> CTE:
    """Delete the messages of the chosen ids, and hand on what is kept of them."""
    m = t.messages
    gone = delete(m).where(m.c.id == any_(func.array(chosen.scalar_subquery())))
    error = func.coalesce(m.c.error, _LAST_LEASE_RAN_OUT).label("error")
    return gone.returning(*(m.c[name] for name in (*_AS_THEY_ARE, "payload")), error).cte("dead")


def buried(t: Tables, gone: CTE, terms: CTE) -> tuple[CTE, CTE]:
    """Keep what died: without its payload where the archive mode is meta, otherwise whole.

    And a copy in the dead letter queue; the `terms` are of the queue.
    """
    mode = select(terms.c.archive_mode).scalar_subquery()
    archived: dict[str, ColumnElement[Any]] = {
        **{name: gone.c[name] for name in (*_AS_THEY_ARE, "error")},
        "payload": case((mode != literal_column("'meta'"), gone.c.payload)),
        "archived_at": func.clock_timestamp(),
        "status": literal_column("'dead'", Text),
    }
    rows = select(*archived.values()).select_from(gone)
    kept = insert(t.archive).from_select(list(archived), rows, include_defaults=False)
    return kept.cte("buried"), copied(t, gone, terms, "buried_copies")
