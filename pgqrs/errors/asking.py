"""What is wrong with what was asked, or with what there is to answer it."""

from __future__ import annotations

import datetime as dt
from typing import Any

__all__ = [
    "ConfigError",
    "EmbeddedPostgresError",
    "InvalidConfigError",
    "InvalidStateError",
    "LeaseLostError",
    "MessageNotFoundError",
    "MissingConfigError",
    "NotFoundError",
    "PartlyEnqueuedError",
    "PayloadError",
    "PgqrsError",
    "QueueNotFoundError",
    "RateLimitedError",
    "RoleNotFoundError",
    "SchemaError",
    "SchemaMissingError",
    "SchemaVersionError",
    "WorkerHasPendingMessagesError",
    "WorkerNotFoundError",
]


class PgqrsError(Exception):
    """The root: catch it to catch everything pgqrs raises."""

    retryable: bool = False
    """Whether the same call may succeed a little later, with nothing changed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[PgqrsError], args: tuple[Any, ...], state: dict[str, Any]) -> PgqrsError:
    # Constructors take data and make the sentence; another process gets both as they are.
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(PgqrsError, ValueError):
    """A setting is missing or wrong."""


class MissingConfigError(ConfigError):
    """No source names a database; the message lists where was looked."""


class InvalidConfigError(ConfigError):
    """A setting has a bad value: `field` names it, `source` says where it came from."""

    def __init__(self, field: str, source: str, reason: str) -> None:
        super().__init__(f"setting {field!r} from {source} is not valid: {reason}")
        self.field = field
        self.source = source


class SchemaError(PgqrsError):
    """The tables in the database are not what this version of pgqrs needs."""


class SchemaMissingError(SchemaError):
    """The pgqrs tables are not there."""

    def __init__(self, schema: str) -> None:
        super().__init__(
            f"there are no pgqrs tables in schema {schema!r}: run `pgqrs install`"
            " or `alembic upgrade head`"
        )
        self.schema = schema


class SchemaVersionError(SchemaError):
    """The pgqrs tables are of another version than this library."""

    def __init__(self, schema: str, detail: str) -> None:
        super().__init__(
            f"the pgqrs tables in schema {schema!r} do not fit this version of pgqrs ({detail}):"
            " run `pgqrs verify`, which tells what brings them there"
        )
        self.schema = schema


class NotFoundError(PgqrsError, LookupError):
    """Something asked for by name or id does not exist."""


class QueueNotFoundError(NotFoundError):
    """No queue has this name (or id)."""

    def __init__(self, queue: str | int) -> None:
        super().__init__(
            f"there is no queue {queue!r}: create it with `pgqrs queue create` or"
            " Admin.create_queue()"
        )
        self.queue = queue


class WorkerNotFoundError(NotFoundError):
    """No worker has this id."""

    def __init__(self, worker_id: int) -> None:
        super().__init__(f"there is no worker {worker_id}")
        self.worker_id = worker_id


class MessageNotFoundError(NotFoundError):
    """No message has this id, in the queue or in the archive."""

    def __init__(self, message_id: int) -> None:
        super().__init__(f"there is no message {message_id}")
        self.message_id = message_id


class RoleNotFoundError(NotFoundError):
    """The server has no role of this name."""

    def __init__(self, role: str) -> None:
        super().__init__(f"the server has no role {role!r}: make it with CREATE ROLE")
        self.role = role


class InvalidStateError(PgqrsError):
    """A step that is not possible from the present state: `current`, `wanted`."""

    def __init__(self, what: str, current: str, wanted: str) -> None:
        super().__init__(f"{what} is {current}, which does not allow it to be {wanted}")
        self.current = current
        self.wanted = wanted


class WorkerHasPendingMessagesError(InvalidStateError):
    """A worker still holds messages: `count` of them."""

    def __init__(self, worker_id: int, count: int) -> None:
        PgqrsError.__init__(
            self,
            f"worker {worker_id} still holds {count} messages: finish them, or release them",
        )
        self.current = "holding messages"
        self.wanted = "stopped"
        self.worker_id = worker_id
        self.count = count


class LeaseLostError(PgqrsError):
    """The lease on this message is not (or no longer) held here; nothing was changed."""

    def __init__(self, message_id: int, detail: str = "") -> None:
        super().__init__(
            f"the lease on message {message_id} is not held here"
            f" ({detail or 'it ran out and the message was leased again, or it is finished'}):"
            " treat the work as not yours to finish"
        )
        self.message_id = message_id


class PayloadError(PgqrsError, ValueError):
    """A payload cannot be stored and come back equal, or breaks a rule; nothing was enqueued.

    `path` leads to what breaks a rule of `ValidationConfig` (``payload.user.password``), `index`
    to the payload within a batch.
    """

    def __init__(self, message: str, path: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.index = index


class RateLimitedError(PgqrsError):
    """A producer sends faster than its limit; nothing was enqueued, and `retry_after` says when."""

    retryable = True

    def __init__(self, queue: str, retry_after: dt.timedelta) -> None:
        super().__init__(
            f"this producer may not send that much to queue {queue!r} yet: try again in"
            f" {retry_after.total_seconds():g} seconds, or raise max_enqueue_per_second"
        )
        self.queue = queue
        self.retry_after = retry_after


class EmbeddedPostgresError(PgqrsError):
    """The embedded development server could not be found, started or stopped."""


class PartlyEnqueuedError(PgqrsError):
    """A batch that is not atomic broke off: `enqueued` messages are in, `__cause__` says why.

    It is retryable, with what follows them, where its cause is.
    """

    def __init__(self, enqueued: int, cause: Exception) -> None:
        super().__init__(f"{enqueued} messages of the batch are enqueued, and then: {cause}")
        self.enqueued = enqueued
        self.retryable = bool(getattr(cause, "retryable", False))
