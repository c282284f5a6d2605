"""Move the clock of a test: what is stored goes back, and the server's own clock is ahead of it."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Connection

from pgqrs.statements import clock as sql

__all__ = ["move_back"]


def move_back(connection: Connection, schema: str, by: dt.timedelta) -> None:
    """Move every stored time back, in all queues; leases keep their fences."""
    connection.execute(sql.move_back(schema), {"span": by})
