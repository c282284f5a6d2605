"""Repositories: plain rows in and out of each of the four tables, as frozen values.

Not for enqueuing, leasing or acknowledging: writing through `Messages` bypasses the fence. Each
method states its plan at a million rows.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from pgqrs import models
from pgqrs.binding import Binding, bound
from pgqrs.call import call
from pgqrs.closing import Closing
from pgqrs.config import Config
from pgqrs.errors import MessageNotFoundError, QueueNotFoundError, WorkerNotFoundError
from pgqrs.payload import encode
from pgqrs.statements import columns, rows
from pgqrs.types import ArchivedMessage, QueueInfo, QueueMessage, WorkerInfo

__all__ = ["Archive", "Messages", "Queues", "Table", "Workers"]

M = TypeVar("M")

_JSON: Final = ("payload", "headers", "options", "output", "error")


class Table(Closing, Generic[M]):
    """One table, whose rows are given as values of type M.

    `bind` is what any pgqrs object takes: an engine or a configuration makes each call a
    transaction of its own; a Session or Connection makes it part of yours. Every method raises
    UnavailableError and SchemaMissingError where they apply.
    """

    _value: type[M]
    _columns: ClassVar[tuple[str, ...]]
    _number: ClassVar[int]
    _parent: ClassVar[str | None] = "queue_id"
    _missing: ClassVar[type[Exception]]

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self.binding: Binding = bound(bind, config)
        self._table: sa.Table = models.tables(self.binding.schema)[self._number]

    def insert(self, **values: Any) -> M:
        """Insert a row of these columns and give it. JSON columns take JSON values.

        Raises DatabaseError where a constraint refuses it, and TypeError for a column it has not.
        """
        statement = rows.add(self._table, self._columns, _encoded(self._table, values))
        return self._value(*self._one(statement, {}))

    def get(self, key: int) -> M:
        """Give the row with this id, by the primary key.

        Raises the NotFoundError of its kind.
        """
        row = self._one(rows.get(self._table, self._columns), {"row_id": key})
        return self._value(*self._found(row, key))

    def list(self, limit: int = 100, offset: int = 0) -> builtins.list[M]:
        """Give up to `limit` rows from `offset` on, in the order of the primary key."""
        statement = rows.page(self._table, self._columns)
        return self._many(statement, limit, offset)

    def update(self, key: int, **values: Any) -> M:
        """Set columns of the row with this id and give it. Raises the NotFoundError of its kind."""
        if not values:
            return self.get(key)
        statement = rows.change(self._table, self._columns, _encoded(self._table, values))
        return self._value(*self._found(self._one(statement, {"row_id": key}), key))

    def delete(self, key: int) -> bool:
        """Delete the row with this id; False where there is none.

        Raises DatabaseError for a queue that other rows refer to.
        """
        return bool(self.binding.run(call(_affected, rows.remove(self._table), {"row_id": key})))

    def count(self) -> int:
        """Count all rows exactly: reads the whole table or its primary key."""
        return self._scalar(rows.count(self._table), {})

    def count_by_fk(self, parent_id: int) -> int:
        """Count the rows of one queue exactly, through an index that begins with the queue.

        Raises TypeError where the table has no parent.
        """
        return self._scalar(rows.count_of(self._table, self._of(parent_id)), {})

    def filter_by_fk(self, parent_id: int, limit: int = 100, offset: int = 0) -> builtins.list[M]:
        """Give up to `limit` rows of one queue by id, from an index that begins with the queue.

        Raises TypeError where the table has no parent.
        """
        statement = rows.page_of(self._table, self._columns, self._of(parent_id))
        return self._many(statement, limit, offset)

    def close(self) -> None:
        """Free what this object owns. Idempotent."""
        self.binding.close()

    def _of(self, parent_id: int) -> ColumnElement[bool]:
        if self._parent is None:
            raise TypeError(f"{type(self).__name__} has no parent to filter or count by")
        parent: ColumnElement[bool] = self._table.c[self._parent] == parent_id
        return parent

    def _one(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> Any:
        return self.binding.run(call(_first, statement, parameters))

    def _many(self, statement: sa.Executable, limit: int, offset: int) -> builtins.list[M]:
        page = {"size": limit, "start": offset}
        return [self._value(*row) for row in self.binding.run(call(_all, statement, page))]

    def _scalar(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> int:
        row = self.binding.run(call(_first, statement, parameters))
        return int(row[0])

    def _found(self, row: Any, key: int | str) -> Any:
        if row is None:
            raise self._missing(key)
        return row


class Queues(Table[QueueInfo]):
    """The queues. They have no parent, so the methods by foreign key raise TypeError."""

    _value = QueueInfo
    _columns = columns.QUEUE
    _number = 0
    _parent = None
    _missing = QueueNotFoundError

    def get_by_name(self, name: str) -> QueueInfo:
        """Give the queue of this name, by its unique index. Raises QueueNotFoundError."""
        return QueueInfo(*self._found(self._by_name(name), name))

    def exists(self, name: str) -> bool:
        """Say whether there is a queue of this name."""
        return self._by_name(name) is not None

    def _by_name(self, name: str) -> Any:
        named = self._table.c.queue_name == name
        page = {"size": 1, "start": 0}
        return self._one(rows.page(self._table, self._columns, named), page)


class Workers(Table[WorkerInfo]):
    """The workers, by queue through an index of their own."""

    _value = WorkerInfo
    _columns = columns.WORKER
    _number = 1
    _missing = WorkerNotFoundError


class Messages(Table[QueueMessage]):
    """The messages that wait or are leased.

    Writing here bypasses the fence: a holder will not learn of it, and an update can give a
    message two owners. Use Producer, Consumer and Admin unless nobody else is at work.
    """

    _value = QueueMessage
    _columns = columns.MESSAGE
    _number = 2
    _missing = MessageNotFoundError

    def filter_by_fk(
        self, parent_id: int, limit: int = 100, offset: int = 0
    ) -> builtins.list[QueueMessage]:
        """Give up to `limit` messages of one queue: the ready, then the delayed, then the leased.

        Ready ones in the order of leasing, the others by vt: from the heads of three indexes, and
        no further than needed.
        """
        sent = columns.as_sent(self._table, self._columns)
        statement = rows.message_page(self._table, sent, self._of(parent_id))
        return self._many(statement, limit, offset)

    def count_by_fk(self, parent_id: int) -> int:
        """Count the messages of one queue exactly, through the indexes of the three states."""
        return self._scalar(rows.message_count(self._table, self._of(parent_id)), {})

    def filter_by_worker(
        self, worker_id: int, limit: int = 100, offset: int = 0
    ) -> builtins.list[QueueMessage]:
        """Give up to `limit` messages that a consumer holds; reads the index of all leases."""
        return self._many(rows.held_page(self._table, self._columns, worker_id), limit, offset)

    def count_by_worker(self, worker_id: int) -> int:
        """Count the messages that a consumer holds; reads the index of all leases."""
        return self._scalar(rows.held_count(self._table, worker_id), {})


class Archive(Table[ArchivedMessage]):
    """The finished messages. Their primary key begins with the queue.

    So `get`, `update` and `delete` descend it once for each queue there is, and `list` goes by
    queue, then by id.
    """

    _value = ArchivedMessage
    _columns = columns.ARCHIVED
    _number = 3
    _missing = MessageNotFoundError

    def filter_by_worker(
        self, worker_id: int, limit: int = 100, offset: int = 0
    ) -> builtins.list[ArchivedMessage]:
        """Give up to `limit` messages that a consumer finished, by queue and id.

        The archive has no index by worker, which would cost every message: this reads the
        history, from the head of the primary key until the page is full.
        """
        done = self._table.c.consumer_worker_id == worker_id
        return self._many(rows.page(self._table, self._columns, done), limit, offset)

    def count_by_worker(self, worker_id: int) -> int:
        """Count the messages that a consumer finished; reads the whole archive."""
        return self._scalar(
            rows.count(self._table, self._table.c.consumer_worker_id == worker_id), {}
        )


def _encoded(table: sa.Table, values: Mapping[str, Any]) -> dict[str, Any]:
    if strange := values.keys() - table.c.keys():
        raise TypeError(f"{table.name} has no column {min(strange)!r}")
    return {
        name: encode(value) if name in _JSON and value is not None else value
        for name, value in values.items()
    }


def _first(connection: Connection, statement: sa.Executable, parameters: Mapping[str, Any]) -> Any:
    return connection.execute(statement, dict(parameters)).first()


def _all(connection: Connection, statement: sa.Executable, parameters: Mapping[str, Any]) -> Any:
    return connection.execute(statement, dict(parameters)).all()


def _affected(
    connection: Connection, statement: sa.Executable, parameters: Mapping[str, Any]
) -> int:
    return connection.execute(statement, dict(parameters)).rowcount
