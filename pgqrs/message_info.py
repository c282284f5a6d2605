"""Where a single message stands, wherever it is: what an operator looks at."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pgqrs.payload import decode

__all__ = ["MessageInfo", "MessageState"]


class MessageState(StrEnum):
    """Where a message stands, by the server's clock.

    Waiting: CREATED before its first attempt, RETRY after one. ACTIVE under an unexpired lease.
    The others are finished: FAILED is archived as `failed` or `dead`, and COMPLETED is every
    status of the archive that is none of these.
    """

    CREATED = "created"
    RETRY = "retry"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """A message as it was at one instant, in its queue or in the archive, with all that is kept.

    `status` is that of the archive, and None in the queue. `payload` and `output` are None where
    the archive mode took them away.
    """

    id: int
    queue_name: str
    state: MessageState
    status: str | None
    queue_id: int
    priority: int
    message_type: str | None
    read_ct: int
    returned_ct: int
    max_attempts: int | None
    enqueued_at: dt.datetime
    vt: dt.datetime
    dequeued_at: dt.datetime | None
    archived_at: dt.datetime | None
    producer_worker_id: int | None
    consumer_worker_id: int | None
    payload_json: str | None = field(default=None, repr=False)
    headers_json: str | None = field(default=None, repr=False)
    output_json: str | None = field(default=None, repr=False)
    error_json: str | None = field(default=None, repr=False)
    options_json: str | None = field(default=None, repr=False)
    message_id: uuid.UUID | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", MessageState(self.state))

    @property
    def attempts(self) -> int:
        """How many leases count against `max_attempts`."""
        return self.read_ct - self.returned_ct

    @property
    def payload(self) -> Any:
        """The JSON value, or None where the archive did not keep it."""
        return _value(self.payload_json)

    @property
    def headers(self) -> Any:
        """What is said of the message beside its payload, or None.

        Under the key `pgqrs`: `replay_of`, the id of the message that this one is a replay of;
        `dead_letter_of`, the queue, id, attempts and limit of the message that this is a copy of.
        """
        return _value(self.headers_json)

    @property
    def options(self) -> Any:
        """What it was given beside its payload that is not shown elsewhere, or None.

        Names are those of MessageOptions, times are seconds; `window` is the key of the window.
        """
        return _value(self.options_json)

    @property
    def output(self) -> Any:
        """What the consumer gave as its result, or None."""
        return _value(self.output_json)

    @property
    def error(self) -> Any:
        """Why its last attempt failed, or None."""
        return _value(self.error_json)


def _value(text: str | None) -> Any:
    return None if text is None else decode(text)
