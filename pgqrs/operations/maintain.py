"""Do what queues need from time to time: bury, reclaim, keep the history short, vacuum.

Each step commits by itself and is done in bounded pieces. Two processes at it at once are harmless.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Executable

from pgqrs.models import tables
from pgqrs.operations import queues, supervise
from pgqrs.sending import fetch_one
from pgqrs.statements import diagnosis, keeping
from pgqrs.statements import maintain as sql
from pgqrs.statements import purge as purging
from pgqrs.types import Maintenance

__all__ = ["MaintenanceTerms", "lead", "maintain", "take_time", "vacuum"]

_BATCH: Final = 1_000
"""How many messages are moved in one statement."""
_LONG_GONE: Final = dt.timedelta(days=1)
"""For how long the row of a worker that holds nothing is kept after its last sign of life."""


@dataclass(frozen=True, slots=True)
class MaintenanceTerms:
    """What holds where a queue says nothing, and when a worker counts as stale."""

    default_attempts: int
    stale_after: dt.timedelta


def lead(connection: Connection, schema: str, worker_id: int, term: dt.timedelta) -> bool:
    """Become the worker that maintains for `term`; False where another one is, or this stopped."""
    row = fetch_one(connection, sql.lead(schema), {"me": worker_id, "term": term})
    return row is not None


def maintain(connection: Connection, schema: str, terms: MaintenanceTerms) -> Maintenance:
    """Bury what is exhausted, revive what stale workers let run out, drop what is too old.

    And what was kept for a time of its own.
    """
    buried = reclaimed = purged = expired = 0
    for queue in queues.everyone(connection, schema):
        those = {"queue": queue.id, "n": _BATCH, "default_attempts": terms.default_attempts}
        buried += _until_done(connection, sql.bury(schema), those | {"upto": None, "since": None})
        stale = those | {"age": terms.stale_after}
        reclaimed += _until_done(connection, sql.revive(schema), stale)
        if queue.retention is not None:
            age = queue.retention
            purged += queues.purge_history(connection, schema, queue, age, spares=True)
        out, over = _look_after_keys(connection, schema, queue.id)
        expired, purged = expired + out, purged + over
    return Maintenance(
        dead_messages=buried,
        reclaimed_messages=reclaimed,
        purged_messages=purged,
        expired_messages=expired,
        purged_workers=supervise.purge(connection, schema, _LONG_GONE),
    )


def vacuum(connection: Connection, schema: str, least: int = 0) -> bool:
    """Vacuum the messages where there are that many dead rows, outside of a transaction.

    False where this role may not: PostgreSQL only warns of that.
    """
    if (connection.scalar(sql.dead_rows(schema)) or 0) < least:
        return False
    table = {"schema": schema, "name": tables(schema).messages.name}
    _, may = connection.execute(diagnosis.role(), table).one()
    if not may:
        return False
    connection.execute(sql.vacuum(schema))
    return True


def take_time(connection: Connection) -> None:
    """Let statements of a connection that nobody else gets take as long as they need."""
    connection.execute(sql.untimed())


def _look_after_keys(connection: Connection, schema: str, queue_id: int) -> tuple[int, int]:
    """Do with a queue's keys what their time has come for by now.

    What is to be looked at again is so in the next round, however soon that is. Gives how many
    messages expired, and how many archived ones were over their time.
    """
    expired = outdated = 0
    upto = connection.scalar(purging.ago(), {"age": dt.timedelta()})
    those = {"queue": queue_id, "n": _BATCH, "upto": upto}
    looked = _BATCH
    while looked:  # less than a batch is not the end: what somebody is just changing is skipped
        looked, out, over = connection.execute(keeping.look_after(schema), those).one()
        expired, outdated = expired + out, outdated + over
    return expired, outdated


def _until_done(connection: Connection, statement: Executable, parameters: Any) -> int:
    total = 0
    while ids := connection.execute(statement, parameters).scalars().all():
        total += len(ids)
        if len(ids) < _BATCH:
            break
    return total
