"""The values pgqrs hands out: frozen, slotted, and never a row of the ORM."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, Generic, cast

from pydantic import BaseModel
from typing_extensions import TypeVar

from pgqrs.payload import decode, validated
from pgqrs.policy import QueuePolicy
from pgqrs.quick import quick

__all__ = [
    "ArchiveMode",
    "ArchivedMessage",
    "Duration",
    "Finding",
    "Maintenance",
    "QueueInfo",
    "QueueMessage",
    "RateLimitStatus",
    "WorkerHealth",
    "WorkerInfo",
    "WorkerRole",
    "WorkerStats",
    "WorkerStatus",
    "name_of",
    "span",
]

P = TypeVar("P", default=Any)
B = TypeVar("B", bound=BaseModel)

Duration = dt.timedelta | float | int
"""A time span: a timedelta, or a number of seconds."""

_LONGEST: Final = dt.timedelta(days=36525)
_UNREAD: Final[Any] = ...  # no JSON value, and still itself after pickling


class WorkerStatus(StrEnum):
    """Where a worker stands: ready ⇄ suspended → stopped."""

    READY = "ready"
    SUSPENDED = "suspended"
    STOPPED = "stopped"


class WorkerRole(StrEnum):
    """What a worker does."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    ADMIN = "admin"


class ArchiveMode(StrEnum):
    """What a completed message leaves behind.

    Under `none` a message that did *not* complete is still kept whole: a failure is never silent.
    """

    FULL = "full"
    META = "meta"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue and its defaults; None means the default of the configuration.

    `dead_letter` is the name of its dead letter queue, if it has one.
    """

    id: int
    queue_name: str
    created_at: dt.datetime
    paused: bool
    archive_mode: ArchiveMode
    visibility_timeout: dt.timedelta | None = None
    max_attempts: int | None = None
    retry_delay: dt.timedelta | None = None
    retry_delay_max: dt.timedelta | None = None
    retry_backoff: bool | None = None
    retention: dt.timedelta | None = None
    dead_letter: str | None = None
    policy: QueuePolicy = QueuePolicy.STANDARD

    def __post_init__(self) -> None:
        object.__setattr__(self, "archive_mode", ArchiveMode(self.archive_mode))
        object.__setattr__(self, "policy", QueuePolicy(self.policy or QueuePolicy.STANDARD))


def name_of(queue: str | QueueInfo) -> str:
    """Give the name of a queue that is given by name or as a QueueInfo."""
    return queue.queue_name if isinstance(queue, QueueInfo) else queue


@dataclass(frozen=True, slots=True)
class QueueMessage(Generic[P]):
    """A message as it was at one instant: just enqueued, leased, extended or looked at.

    Passing a leased one to archive, delete, extend_visibility or release fences exactly: only the
    holder of this very lease can act. `message_id` is the id that the producer gave it, `key` its
    singleton or ordering key.
    """

    id: int
    queue_id: int
    payload_json: str = field(repr=False)
    priority: int
    read_ct: int
    vt: dt.datetime
    enqueued_at: dt.datetime
    dequeued_at: dt.datetime | None = None
    producer_worker_id: int | None = None
    consumer_worker_id: int | None = None
    message_type: str | None = None
    returned_ct: int = 0
    max_attempts: int | None = None
    headers_json: str | None = field(default=None, repr=False)
    message_id: uuid.UUID | None = None
    key: str | None = None
    _payload: Any = field(default=_UNREAD, init=False, repr=False, compare=False)
    _model: type[BaseModel] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def payload(self) -> P:
        """The JSON value, or what `typed` asked for; parsed when first read.

        Raises PayloadError where it does not fit the model asked for.
        """
        if self._payload is _UNREAD:
            value = decode(self.payload_json)
            if self._model is not None:
                value = validated(self._model, value)
            object.__setattr__(self, "_payload", value)
        return cast("P", self._payload)

    @property
    def headers(self) -> Any:
        """What is said of the message beside its payload, or None; parsed at each read."""
        return None if self.headers_json is None else decode(self.headers_json)

    def typed(self, model: type[B]) -> QueueMessage[B]:
        """Give the same message with its payload as this pydantic model."""
        typed = cast("QueueMessage[B]", replace(self))
        object.__setattr__(typed, "_model", model)
        return typed

    @property
    def attempts(self) -> int:
        """How many leases count against `max_attempts`: those not given back unstarted."""
        return self.read_ct - self.returned_ct


message_of = quick(QueueMessage)
"""Make a message of its fields by position, as `QueueMessage` does."""


@dataclass(frozen=True, slots=True)
class ArchivedMessage:
    """A finished message; `payload` and `output` are None where the archive mode is not full."""

    id: int
    queue_id: int
    payload_json: str | None = field(repr=False)
    priority: int
    read_ct: int
    vt: dt.datetime
    enqueued_at: dt.datetime
    dequeued_at: dt.datetime | None
    producer_worker_id: int | None
    consumer_worker_id: int | None
    message_type: str | None
    returned_ct: int
    max_attempts: int | None
    headers_json: str | None = field(repr=False)
    message_id: uuid.UUID | None
    key: str | None
    archived_at: dt.datetime
    status: str
    output_json: str | None = field(default=None, repr=False)
    error_json: str | None = field(default=None, repr=False)
    _payload: Any = field(default=_UNREAD, init=False, repr=False, compare=False)

    @property
    def payload(self) -> Any:
        """The JSON value, or None; parsed when first read."""
        if self.payload_json is not None and self._payload is _UNREAD:
            object.__setattr__(self, "_payload", decode(self.payload_json))
        return None if self.payload_json is None else self._payload

    @property
    def headers(self) -> Any:
        """What is said of the message beside its payload, or None."""
        return None if self.headers_json is None else decode(self.headers_json)

    @property
    def attempts(self) -> int:
        """How many leases counted against `max_attempts`."""
        return self.read_ct - self.returned_ct

    @property
    def output(self) -> Any:
        """What the consumer gave as its result, or None."""
        return None if self.output_json is None else decode(self.output_json)

    @property
    def error(self) -> Any:
        """Why it failed, or None."""
        return None if self.error_json is None else decode(self.error_json)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker's registration: a (process, queue, role), or an explicit hostname and port."""

    id: int
    queue_id: int | None
    role: WorkerRole
    hostname: str
    port: int | None
    pid: int | None
    status: WorkerStatus
    started_at: dt.datetime
    heartbeat_at: dt.datetime
    shutdown_at: dt.datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", WorkerRole(self.role))
        object.__setattr__(self, "status", WorkerStatus(self.status))


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """A worker that is not stopped: how long since its last heartbeat, and what it holds."""

    worker: WorkerInfo
    heartbeat_age: dt.timedelta
    healthy: bool
    held_messages: int


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """The workers of one queue, counted; stale ones are among the ready and suspended."""

    queue_name: str
    total_workers: int
    ready_workers: int
    suspended_workers: int
    stopped_workers: int
    stale_workers: int
    held_messages: int
    newest_heartbeat_at: dt.datetime | None
    oldest_started_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class Maintenance:
    """What one round of maintenance did.

    `dead_messages` had no attempt left and went to the archive; `reclaimed_messages` were let run
    out by workers that are gone; `purged_messages` were kept for as long as they or their queue
    say; `purged_workers` were without a sign of life for a day and held nothing; `expired_messages`
    were never leased in the time that they are kept for.
    """

    dead_messages: int = 0
    reclaimed_messages: int = 0
    purged_messages: int = 0
    purged_workers: int = 0
    vacuumed: bool = False
    expired_messages: int = 0


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """How much a producer may send: `limit` messages a second, `burst` at once after a pause.

    `available` is what it may send now, below zero after a batch larger than `burst`. Where that
    is no whole message, `retry_after` is how long until it is.
    """

    limit: float
    burst: int
    available: float
    retry_after: dt.timedelta | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that `verify` or `diagnose` found amiss, and what mends it.

    `severity` is "error" where pgqrs cannot work as it should, else "warning"; "note" for what this
    role may not see. `mended` says that it was so, until just now.
    """

    severity: str
    message: str
    remedy: str
    check: str = "schema"
    mended: bool = False


def span(duration: Duration) -> dt.timedelta:
    """Give a duration as a timedelta; raises ValueError unless it is 0 to 100 years long."""
    try:
        given = duration if isinstance(duration, dt.timedelta) else dt.timedelta(seconds=duration)
    except (OverflowError, ValueError):
        given = dt.timedelta.max
    if not dt.timedelta() <= given <= _LONGEST:
        raise ValueError(f"a duration is between 0 seconds and 100 years, not {duration!r}")
    return given
