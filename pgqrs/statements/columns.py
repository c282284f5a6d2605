"""The columns in which rows travel, in the order of the values they become."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, FromClause, ScalarSelect, Text, cast, select

__all__ = ["ARCHIVED", "LEAVING", "MESSAGE", "QUEUE", "WORKER", "as_sent"]

MESSAGE = (
    "id",
    "queue_id",
    "payload",
    "priority",
    "read_ct",
    "vt",
    "enqueued_at",
    "dequeued_at",
    "producer_worker_id",
    "consumer_worker_id",
    "message_type",
    "returned_ct",
    "max_attempts",
    "headers",
    "message_id",
    "key",
)
LEAVING = (*MESSAGE, "options")
"""What goes to the archive as it is."""
ARCHIVED = (*MESSAGE, "archived_at", "status", "output", "error")
QUEUE = (
    "id",
    "queue_name",
    "created_at",
    "paused",
    "archive_mode",
    "visibility_timeout",
    "max_attempts",
    "retry_delay",
    "retry_delay_max",
    "retry_backoff",
    "retention",
    "dead_letter",
    "policy",
)
WORKER = (
    "id",
    "queue_id",
    "role",
    "hostname",
    "port",
    "pid",
    "status",
    "started_at",
    "heartbeat_at",
    "shutdown_at",
)
_JSON = ("payload", "output", "error", "headers")


def as_sent(source: FromClause, names: tuple[str, ...]) -> list[ColumnElement[Any]]:
    """Give the named columns as they are sent to the client.

    JSON leaves as text: whatever hooks the engine has for JSON never see it. A queue's dead letter
    queue leaves by its name.
    """
    return [_sent(source, name) for name in names]


def _sent(source: FromClause, name: str) -> ColumnElement[Any]:
    if name == "dead_letter":
        return _name_of_queue(source.c.dead_letter_queue_id, source).label(name)
    return cast(source.c[name], Text).label(name) if name in _JSON else source.c[name]


def _name_of_queue(reference: ColumnElement[Any], source: FromClause) -> ScalarSelect[Any]:
    (key,) = reference.foreign_keys
    other = key.column.table.alias("other")
    return (
        select(other.c.queue_name)
        .where(other.c[key.column.name] == reference)
        .correlate(source)
        .scalar_subquery()
    )
