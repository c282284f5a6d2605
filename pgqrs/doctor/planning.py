"""How the server would lease from the data that are there now; nothing is leased."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection

from pgqrs.doctor.check import Terms, command, error
from pgqrs.models import tables
from pgqrs.operations import queues
from pgqrs.statements import diagnosis as sql
from pgqrs.statements import system
from pgqrs.statements.system import named
from pgqrs.types import Finding

__all__ = ["of_plan", "troubles"]

_MOST_QUEUES: Final = 20
_ARMS: Final = {"ready": "ready", "delayed": "delayed", "expired": "leased"}
"""The parts of a lease, and the states by whose index they go."""
_LINE: Final = {"window": "ready"} | {arm: _ARMS[arm] for arm in ("delayed", "expired")}
"""Where messages of one key hold others back, it is the first of the line that is looked at."""


def of_plan(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Explain a lease of each queue (of 20): each arm goes by the head of its index.

    For a small table any plan is good, and none is looked at.
    """
    messages = tables(terms.schema).messages
    parameters = {"schema": terms.schema, "names": [messages.name]}
    size = connection.execute(system.every_table(), parameters).one()[3]
    if size < terms.small_table:
        return
    for queue in queues.everyone(connection, terms.schema)[:_MOST_QUEUES]:
        statement = sql.explained_lease(terms.schema, queue.policy)
        plan = connection.scalar(statement, _lease_of(queue.id))
        found = troubles(plan[0]["Plan"], messages.name)
        if found:
            yield error(
                f"a lease of queue {queue.queue_name!r} {', '.join(found)}: it becomes slower with"
                " each message",
                f"ANALYZE {named(messages)}; if that does not help, see"
                f" `{command(terms, 'verify')}` for the indexes",
            )


def troubles(plan: dict[str, Any], table: str) -> list[str]:
    """Say what of a lease's plan reads more than the heads of indexes."""
    nodes = list(_nodes(plan))
    found = []
    if any(n["Node Type"] == "Seq Scan" and n["Relation Name"] == table for n in nodes):
        found.append(f"reads all of {table}")
    in_line = any(node.get("Subplan Name") == "CTE window" for node in nodes)
    for arm, state in (_LINE if in_line else _ARMS).items():
        roots = [node for node in nodes if node.get("Subplan Name") == f"CTE {arm}"]
        below = [each for root in roots for each in _nodes(root)]
        if any(each["Node Type"].endswith("Sort") for each in below):
            found.append(f"sorts what is {'expired' if arm == 'expired' else state}")
        wanted = f"{table}_{state}"
        if below and wanted not in {each.get("Index Name") for each in below}:
            found.append(f"does not use index {wanted}")
    return found


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _lease_of(queue_id: int) -> dict[str, Any]:
    return {
        "queue": queue_id,
        "worker": 0,
        "n": 10,
        "timeout": None,
        "default_timeout": dt.timedelta(seconds=30),
        "default_attempts": 5,
    }
