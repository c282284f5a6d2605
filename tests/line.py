"""A queue with everyone who works on it, and a clock that moves by rewriting `vt`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from sqlalchemy import text

from pgqrs import Admin, Config, Consumer, Producer, QueueMessage
from pgqrs.models import tables

MESSAGES, ARCHIVE, WORKERS = (tables().messages, tables().archive, tables().workers)


def id_of(message: QueueMessage | int) -> int:
    return message if isinstance(message, int) else message.id


class Line:
    """One queue in a fresh database.

    `consumer` and `sibling` are two objects that share a worker row; `other` has one of its own.
    """

    def __init__(self, config: Config, queue: str = "work", **options: Any) -> None:
        self.config = config
        self.queue = queue
        self.admin = Admin(config)
        self.admin.create_queue(queue, **options)
        self.producer = Producer(config, queue)
        self.consumer = Consumer(config, queue)
        self.sibling = Consumer(config, queue)
        self.other = Consumer(config, queue, "elsewhere", 1)

    def execute(self, statement: Any, **parameters: Any) -> Any:
        """Run one statement and commit it; gives the rows, if there are any."""
        sql = text(statement) if isinstance(statement, str) else statement
        with self.admin.pool.connect() as connection:
            result = connection.execute(sql, parameters)
            return result.all() if result.returns_rows else None

    def come_due(self, *messages: QueueMessage | int) -> None:
        """Let the time of these come, in the order given: leases run out, delays are over."""
        for place, message in enumerate(messages):
            self.execute(
                "UPDATE pgqrs.pgqrs_messages"
                " SET vt = statement_timestamp() - interval '1 hour' + :place * interval '1 ms'"
                " WHERE id = :id",
                id=id_of(message),
                place=place,
            )

    def expire_all(self) -> None:
        """Let all leases run out, in the order of ids."""
        self.execute(
            "UPDATE pgqrs.pgqrs_messages"
            " SET vt = statement_timestamp() - interval '1 hour' + id * interval '1 us'"
            " WHERE state = 2"
        )

    def waiting(self) -> dict[int, Any]:
        """Give the rows of the queue by id."""
        return _by_id(self.execute(MESSAGES.select()))

    def archived(self) -> dict[int, Any]:
        """Give the rows of the archive by id."""
        return _by_id(self.execute(ARCHIVE.select()))

    def row(self, message: QueueMessage | int) -> Any:
        """Give the row of a message that is in the queue."""
        return self.waiting()[id_of(message)]

    def place(self, message: QueueMessage | int) -> str:
        """Say where a message is: queue, archive, both (never!) or gone."""
        found = (id_of(message) in self.waiting(), id_of(message) in self.archived())
        return {(True, False): "queue", (False, True): "archive", (True, True): "both"}.get(
            found, "gone"
        )

    def drain(self, consumer: Consumer | None = None) -> list[QueueMessage]:
        """Lease one by one all there is to lease."""
        found = []
        while (message := (consumer or self.consumer).dequeue()) is not None:
            found.append(message)
        return found

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for each in (self.admin, self.producer, self.consumer, self.sibling, self.other):
                stack.callback(each.close)


def _by_id(rows: Iterable[Any]) -> dict[int, Any]:
    return {row.id: row for row in rows}
