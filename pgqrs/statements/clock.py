"""Move what is stored back in time, so that the server's clock is ahead of it: for tests."""

from __future__ import annotations

from typing import Any

from sqlalchemy import CTE, Executable, Interval, Table, bindparam, func, select, update

from pgqrs.models import Tables
from pgqrs.statements.per_schema import per_schema

__all__ = ["move_back"]


@per_schema
def move_back(t: Tables) -> Executable:
    """Move every time of messages, archive, keys and workers back by `span`, of all queues.

    Read counts and holders stay, so the fences of leases do. Gives how many messages are in queues.
    """
    messages = _moved(t.messages, "vt", "enqueued_at", "dequeued_at")
    others = [
        _moved(t.archive, "vt", "enqueued_at", "dequeued_at", "archived_at"),
        _moved(t.keys, "taken_at", "until"),
        _moved(t.workers, "started_at", "heartbeat_at", "shutdown_at", "leads_until"),
    ]
    return select(func.count()).select_from(messages).add_cte(*others)


def _moved(table: Table, *names: str) -> CTE:
    by: Any = bindparam("span", type_=Interval)
    statement = update(table).values({name: table.c[name] - by for name in names})
    return statement.returning(*table.primary_key.columns).cte(f"moved_{table.name}")
