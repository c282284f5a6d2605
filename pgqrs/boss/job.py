"""Jobs: what is sent, and what is known of one that was."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pgqrs.message_info import MessageInfo, MessageState
from pgqrs.new_message import NewMessage
from pgqrs.operations.identity import identity_of
from pgqrs.payload import Json
from pgqrs.types import Duration, QueueMessage

__all__ = ["Job", "JobBuilder", "JobDetails", "JobState"]


class JobState(StrEnum):
    """Where a job stands.

    CREATED before its first attempt, RETRY before another one, ACTIVE while it is fetched.
    FAILED: it used up its retries, was failed for good, or was never fetched in its time.
    """

    CREATED = "created"
    RETRY = "retry"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job to be sent; what is None is as its queue has it. Durations: timedeltas or seconds.

    `data` is any JSON value, text included. Higher priorities are fetched first. It is tried once
    and `retry_limit` times more, after `retry_delay`, which doubles with `retry_backoff`;
    `dead_letter` is the queue that gets a copy when that is over. Each attempt has `expire_in`.
    `retain_for`: kept so long, at least, when it is finished; never fetched, it fails so long after
    it was due. It is due after `delay_for`, or at `start_after`, an aware datetime.
    `singleton_for`: no other job of the queue with this `singleton_key` (or without one) gets in
    for so long. `id`: its own; without one it is given one when it is sent.
    """

    queue_name: str
    data: Any = None
    priority: int | None = None
    retry_limit: int | None = None
    retry_delay: Duration | None = None
    retry_backoff: bool | None = None
    expire_in: Duration | None = None
    retain_for: Duration | None = None
    delay_for: Duration | None = None
    start_after: dt.datetime | None = None
    singleton_for: Duration | None = None
    singleton_key: str | None = None
    dead_letter: str | None = None
    id: uuid.UUID | None = None

    @classmethod
    def builder(cls) -> JobBuilder:
        """Give a builder, whose methods are named like the fields."""
        return JobBuilder()

    def message(self) -> NewMessage:
        """Give the message that this job is. Raises ValueError for an id that is a number."""
        if self.id is not None and self.id.int < 2**63:
            raise ValueError(f"{self.id} stands for the number of a message: say id=uuid.uuid4()")
        return NewMessage(
            Json(self.data) if isinstance(self.data, str) else self.data,
            message_id=uuid.uuid4() if self.id is None else self.id,
            max_attempts=None if self.retry_limit is None else self.retry_limit + 1,
            delay=self.delay_for,
            deliver_at=self.start_after,
            **{name: getattr(self, name) for name in _SAME},
        )


_SAME = (
    "priority",
    "retry_delay",
    "retry_backoff",
    "expire_in",
    "retain_for",
    "singleton_for",
    "singleton_key",
    "dead_letter",
)


class JobBuilder:
    """Makes a Job, one field after the other; see Job for what they mean."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def queue_name(self, name: str) -> Self:
        """Set the queue."""
        return self._with(queue_name=name)

    def data(self, value: Any) -> Self:
        """Set the payload, any JSON value."""
        return self._with(data=value)

    def priority(self, value: int) -> Self:
        """Set the priority; higher ones are fetched first."""
        return self._with(priority=value)

    def retry_limit(self, limit: int) -> Self:
        """Set how often it is tried again."""
        return self._with(retry_limit=limit)

    def retry_delay(self, delay: Duration) -> Self:
        """Set how long after a failure it is due again."""
        return self._with(retry_delay=delay)

    def retry_backoff(self, doubles: bool = True) -> Self:  # noqa: FBT001, FBT002 - one flag
        """Set whether that doubles each time."""
        return self._with(retry_backoff=doubles)

    def expire_in(self, time: Duration) -> Self:
        """Set how long each attempt may take."""
        return self._with(expire_in=time)

    def retain_for(self, time: Duration) -> Self:
        """Set for how long it is kept, at least."""
        return self._with(retain_for=time)

    def delay_for(self, time: Duration) -> Self:
        """Set in how long it is due."""
        return self._with(delay_for=time)

    def start_after(self, instant: dt.datetime) -> Self:
        """Set when it is due."""
        return self._with(start_after=instant)

    def singleton_for(self, time: Duration) -> Self:
        """Set for how long it keeps others with its singleton key out."""
        return self._with(singleton_for=time)

    def singleton_key(self, key: str) -> Self:
        """Set its singleton key."""
        return self._with(singleton_key=key)

    def dead_letter(self, queue: str) -> Self:
        """Set the queue that gets a copy when it failed for good."""
        return self._with(dead_letter=queue)

    def id(self, key: uuid.UUID) -> Self:
        """Set its id."""
        return self._with(id=key)

    def build(self) -> Job:
        """Give the job. Raises TypeError without a queue."""
        return Job(**self._fields)

    def _with(self, **fields: Any) -> Self:
        self._fields.update(fields)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails:
    """A job as it was at one instant: just fetched, or looked at.

    A message that was sent without a UUID, such as a dead letter, has its `number` as `id`.
    `retry_limit` is None where it is the queue's; `expires_at` is when the attempt of an active job
    is over; `output` is the result, or what its last attempt failed of. `data` and `output` are
    None where the queue does not keep them.
    """

    id: uuid.UUID
    number: int
    queue_name: str
    data: Any = field(repr=False)
    state: JobState
    priority: int
    retry_limit: int | None
    retry_count: int
    singleton_key: str | None
    created_on: dt.datetime
    started_on: dt.datetime | None
    expires_at: dt.datetime | None
    completed_on: dt.datetime | None = None
    output: Any = field(default=None, repr=False)

    @classmethod
    def fetched(cls, message: QueueMessage, queue: str) -> JobDetails:
        """Give what a lease says of a job."""
        return cls(queue_name=queue, state=JobState.ACTIVE, expires_at=message.vt, **_of(message))

    @classmethod
    def found(cls, info: MessageInfo) -> JobDetails:
        """Give what a look at the message says of a job."""
        state = JobState.FAILED if info.state == MessageState.EXPIRED else JobState(info.state)
        return cls(
            queue_name=info.queue_name,
            state=state,
            expires_at=info.vt if state == JobState.ACTIVE else None,
            completed_on=info.archived_at,
            output=info.output if state == JobState.COMPLETED else info.error,
            **_of(info),
        )


def _of(message: QueueMessage | MessageInfo) -> dict[str, Any]:
    limit = message.max_attempts
    return {
        "id": identity_of(message.message_id, message.id),
        "number": message.id,
        "data": message.payload,
        "priority": message.priority,
        "retry_limit": None if limit is None else limit - 1,
        "retry_count": max(message.attempts - 1, 0),
        "singleton_key": message.key,
        "created_on": message.enqueued_at,
        "started_on": message.dequeued_at,
    }
