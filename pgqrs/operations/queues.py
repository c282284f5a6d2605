"""Create, find, change, measure, empty and delete queues."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypedDict

from sqlalchemy import Connection, Executable

from pgqrs.checks import checked_attempts, checked_name
from pgqrs.errors import (
    QueueExistsError,
    QueueInUseError,
    QueueNotEmptyError,
    QueueNotFoundError,
)
from pgqrs.operations import views
from pgqrs.policy import QueuePolicy
from pgqrs.queue_metrics import QueueMetrics
from pgqrs.statements import measure
from pgqrs.statements import purge as purging
from pgqrs.statements import queues as sql
from pgqrs.types import ArchiveMode, Duration, QueueInfo, span

__all__ = [
    "BATCH",
    "COUNT_LIMIT",
    "QueueOptions",
    "all_metrics",
    "check_deletable",
    "checked_options",
    "create",
    "delete",
    "everyone",
    "find",
    "metrics",
    "purge",
    "purge_archive",
    "purge_history",
    "update",
]

_BEFORE_ALL: Final = -(2**63)
COUNT_LIMIT: Final = 10_000
"""Where the counts of metrics stop unless exact ones are asked for."""

BATCH: Final = 5_000
"""How many rows a purge deletes in one statement, each a commit of its own."""


class QueueOptions(TypedDict, total=False):
    """What a queue can be created with and changed to; what is left out or None is not touched.

    Durations (`visibility_timeout`, the delays, `retention`) are seconds or timedeltas.
    `archive_mode` is full, meta (no payload, no output) or none (nothing, of what completed).
    Maintenance deletes what was archived longer ago than `retention`; without one, nothing.
    `dead_letter` is the name of the queue that gets a copy of what dies; empty text: none.
    `policy` is given when the queue is made and stays; see QueuePolicy.
    """

    visibility_timeout: Duration | None
    max_attempts: int | None
    archive_mode: ArchiveMode | str | None
    retry_delay: Duration | None
    retry_delay_max: Duration | None
    retry_backoff: bool | None
    retention: Duration | None
    dead_letter: str | None
    policy: QueuePolicy | str | None


def checked_options(options: QueueOptions) -> dict[str, Any]:
    """Give the options that are set, as columns of a queue. Raises ValueError for bad ones."""
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name not in _CHECKS:
            raise TypeError(f"a queue has no option {name!r}: it has {', '.join(_CHECKS)}")
        checked[name] = _CHECKS[name](value)
    return checked


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "visibility_timeout": span,
    "max_attempts": checked_attempts,
    "archive_mode": lambda value: ArchiveMode(value).value,
    "retry_delay": span,
    "retry_delay_max": span,
    "retry_backoff": bool,
    "retention": span,
    "dead_letter": lambda value: value and checked_name(value),
    "policy": lambda value: QueuePolicy(value).value,
}


def create(
    connection: Connection, schema: str, name: str, options: Mapping[str, Any], *, exist_ok: bool
) -> QueueInfo:
    """Create a queue.

    Raises QueueExistsError unless `exist_ok`, which gives the one there is; QueueNotFoundError for
    a dead letter queue that is not there; ValueError where it would be its own, or has a policy.
    """
    letters = _other_than(name, options.get("dead_letter") or None)
    defaults = {"paused": False, "archive_mode": "full", "policy": QueuePolicy.STANDARD.value}
    values = dict.fromkeys(sql.OPTIONS) | defaults | dict(options) | {"dead_letter": letters}
    row = connection.execute(sql.create(schema), {"queue": name, **values}).one_or_none()
    if row is not None:
        return QueueInfo(*row)
    if letters is not None:
        _check_letters(connection, schema, letters)
    if exist_ok:
        return find(connection, schema, name)
    raise QueueExistsError(name)


def find(connection: Connection, schema: str, name: str) -> QueueInfo:
    """Look a queue up. Raises QueueNotFoundError."""
    return _the_queue(connection, sql.find(schema), {"queue": name})


def everyone(connection: Connection, schema: str) -> list[QueueInfo]:
    """List all queues, by name."""
    return [QueueInfo(*row) for row in connection.execute(sql.everyone(schema))]


def update(connection: Connection, schema: str, name: str, options: Mapping[str, Any]) -> QueueInfo:
    """Set options of a queue.

    Raises QueueNotFoundError, also of its dead letter queue; ValueError where it would be its own.
    """
    if "policy" in options:
        raise ValueError("the policy of a queue is given when it is created, and stays")
    if not options:
        return find(connection, schema, name)
    letters = _other_than(name, options.get("dead_letter"))
    values = {f"new_{option}": value for option, value in options.items()}
    statement = sql.change(schema, frozenset(options))
    row = connection.execute(statement, {"queue": name} | values).one_or_none()
    if row is not None:
        return QueueInfo(*row)
    find(connection, schema, name)
    _check_letters(connection, schema, letters or name)
    raise QueueNotFoundError(letters or name)


def _other_than(name: str, letters: str | None) -> str | None:
    if letters == name:
        raise ValueError(f"queue {name!r} cannot be its own dead letter queue")
    return letters


def _check_letters(connection: Connection, schema: str, name: str) -> None:
    if find(connection, schema, name).policy is not QueuePolicy.STANDARD:
        raise ValueError(
            f"queue {name!r} has a policy, which might keep a copy out: a dead letter queue is of"
            " standard policy"
        )


def check_deletable(connection: Connection, schema: str, name: str) -> None:
    """Raise QueueInUseError where a queue is the dead letter queue of another.

    And DatabaseError where it has views that are not for this role to drop.
    """
    users = connection.execute(sql.users(schema), {"queue": name}).scalars().all()
    if users:
        raise QueueInUseError(name, users)
    views.check_droppable(connection, schema, name)


def delete(connection: Connection, schema: str, name: str, *, force: bool) -> None:
    """Delete a queue, its workers and views; to run in a transaction, after purging when `force`.

    Raises QueueNotFoundError, QueueInUseError where it is a dead letter queue, DatabaseError where
    its views are others', or QueueNotEmptyError while it has messages or history.
    """
    queue = _the_queue(connection, sql.find_for_update(schema), {"queue": name})
    check_deletable(connection, schema, name)
    key = {"queue": queue.id}
    if force:  # what came in since the purge; from here on nothing more can
        purge(connection, schema, name)
        purge_archive(connection, schema, name, older_than=None)
    messages, archived = connection.execute(sql.count_rows(schema), key).one()
    if messages or archived:
        raise QueueNotEmptyError(name, messages, archived)
    connection.execute(sql.drop_keys(schema), key)
    views.drop(connection, schema, name)
    connection.execute(sql.drop_workers(schema), key)
    connection.execute(sql.drop(schema), key)


def purge(connection: Connection, schema: str, name: str) -> int:
    """Delete the messages a queue has now, leased ones too, in batches; gives how many.

    Rows that somebody is just changing are left alone. Raises QueueNotFoundError.
    """
    key = {"queue": find(connection, schema, name).id, "n": BATCH}
    upto = connection.scalar(purging.newest(schema))
    statements = (purging.leased(schema), purging.delayed(schema), purging.ready(schema))
    deleted = 0
    for statement in statements:
        while ids := connection.execute(statement, {**key, "upto": upto}).scalars().all():
            deleted += len(ids)
    return deleted


def purge_archive(
    connection: Connection, schema: str, name: str | None, *, older_than: dt.timedelta | None
) -> int:
    """Delete archived messages of one queue or all, of one age or any; gives how many.

    Raises QueueNotFoundError.
    """
    which = everyone(connection, schema) if name is None else [find(connection, schema, name)]
    age = older_than or dt.timedelta()
    return sum(purge_history(connection, schema, queue, age) for queue in which)


def purge_history(
    connection: Connection,
    schema: str,
    queue: QueueInfo,
    older_than: dt.timedelta,
    *,
    spares: bool = False,
) -> int:
    """Delete what a queue archived longer ago than that, in batches; gives how many.

    Where it `spares`, not what is kept for a time of its own.
    """
    upto = connection.scalar(purging.ago(), {"age": older_than})
    place = {"queue": queue.id, "after": _BEFORE_ALL, "upto": upto, "n": BATCH, "spares": spares}
    deleted, over = 0, False
    while not over:
        count, place["after"], late = connection.execute(purging.archived(schema), place).one()
        deleted += count
        over = late or place["after"] is None
    return deleted


def metrics(connection: Connection, schema: str, name: str, limit: int | None) -> QueueMetrics:
    """Measure one queue; counts stop at `limit`. Raises QueueNotFoundError."""
    parameters = {"queue": name, "cap": limit}
    row = connection.execute(measure.one_queue(schema), parameters).one_or_none()
    if row is None:
        raise QueueNotFoundError(name)
    return _metrics(row)


def all_metrics(connection: Connection, schema: str, limit: int | None) -> list[QueueMetrics]:
    """Measure every queue, by name."""
    rows = connection.execute(measure.every_queue(schema), {"cap": limit})
    return [_metrics(row) for row in rows]


def _metrics(row: Any) -> QueueMetrics:
    measures = [*row[:-1], json.loads(row[-1] or "{}")]
    return QueueMetrics(*measures)


def _the_queue(
    connection: Connection, statement: Executable, parameters: dict[str, Any]
) -> QueueInfo:
    row = connection.execute(statement, parameters).one_or_none()
    if row is None:
        raise QueueNotFoundError(parameters["queue"])
    return QueueInfo(*row)
