"""Put messages into a queue, one or many."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from pgqrs.errors import LeaseLostError, QueueNotFoundError
from pgqrs.sending import fetch_one
from pgqrs.statements import acknowledge as acknowledging
from pgqrs.statements import enqueue as sql
from pgqrs.statements import wake
from pgqrs.types import QueueMessage, message_of

__all__ = ["Envelope", "enqueue", "enqueue_many", "extend_produced", "notify"]


class Envelope(NamedTuple):
    """What is said of a message, or of all of a batch, beside its payload."""

    queue: str
    priority: int = 0
    delay: dt.timedelta = dt.timedelta()
    max_attempts: int | None = None
    message_type: str | None = None
    rings: bool = False
    channel: str = ""
    skips: bool = False
    """Whether one that is kept out by another is left out; else that is an error."""

    def parameters(self, json: str, worker_id: int | None) -> dict[str, Any]:
        """Give the parameters of the statements."""
        return {
            "queue": self.queue,
            "json": json,
            "rank": self.priority,
            "phase": 1 if self.delay else 0,
            "delay": self.delay,
            "attempts": self.max_attempts,
            "worker": worker_id,
            "kind": self.message_type,
            "rings": self.rings,
            "channel": self.channel,
        }


def enqueue(
    connection: Connection, schema: str, envelope: Envelope, text: str, worker_id: int | None
) -> QueueMessage:
    """Insert one message. Raises QueueNotFoundError."""
    parameters = envelope.parameters(text, worker_id)
    row = fetch_one(connection, sql.enqueue_one(schema), parameters)
    if row is None:
        raise QueueNotFoundError(envelope.queue)
    message_id, queue_id, vt, enqueued_at, _ = row
    kind, attempts = envelope.message_type, envelope.max_attempts
    head = (message_id, queue_id, text, envelope.priority, 0, vt, enqueued_at)
    return message_of(*head, None, worker_id, None, kind, 0, attempts)


def enqueue_many(
    connection: Connection,
    schema: str,
    envelope: Envelope,
    texts: Sequence[str],
    worker_id: int | None,
) -> list[QueueMessage]:
    """Insert messages in one statement, ids in the order given. Raises QueueNotFoundError."""
    if not texts:
        return []
    parameters = envelope.parameters("[" + ",".join(texts) + "]", worker_id)
    ids, queue_id, vt, enqueued_at, _ = fetch_one(connection, sql.enqueue_many(schema), parameters)
    if ids is None:
        raise QueueNotFoundError(envelope.queue)
    rank, alike = envelope.priority, (vt, enqueued_at, None, worker_id, None)
    last = (envelope.message_type, 0, envelope.max_attempts)
    return [
        message_of(number, queue_id, text, rank, 0, *alike, *last)
        for number, text in zip(sorted(map(int, ids[1:-1].split(","))), texts, strict=True)
    ]


def notify(connection: Connection, channel: str) -> None:
    """Wake whoever listens on a queue's channel."""
    connection.execute(wake.notify(), {"channel": channel, "message": ""})


def extend_produced(
    connection: Connection, schema: str, message_id: int, worker_id: int | None, by: dt.timedelta
) -> QueueMessage:
    """Postpone a waiting message, or extend a lease, of what this worker produced.

    Raises LeaseLostError where it is finished, or another worker's.
    """
    parameters = {"mid": message_id, "worker": worker_id, "span": by}
    row = fetch_one(connection, acknowledging.extend_produced(schema), parameters)
    if row is None:
        raise LeaseLostError(
            message_id, "it is finished, due again, or was produced by another worker"
        )
    return QueueMessage(*row)
