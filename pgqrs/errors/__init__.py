"""Every error pgqrs raises: one tree, drawn below; each carries data and names the way out.

PgqrsError                           retryable = False
├── ConfigError(ValueError)          MissingConfigError · InvalidConfigError(field, source)
├── SchemaError                      SchemaMissingError · SchemaVersionError
├── NotFoundError(LookupError)       QueueNotFoundError · WorkerNotFoundError · MessageNotFoundError
│                                    RoleNotFoundError
├── ConflictError                    QueueExistsError · QueueNotEmptyError · QueueInUseError
│   ├── WorkerExistsError            hostname, port, queue
│   ├── DuplicateMessageError        queue, message_id or key, index
│   └── ThrottledError               retryable: queue, key, retry_after, index
├── InvalidStateError                current, wanted; WorkerHasPendingMessagesError(count)
├── LeaseLostError                   message_id
├── PayloadError(ValueError)         path, index
├── RateLimitedError                 retryable: queue, retry_after
├── PartlyEnqueuedError              enqueued: a batch that is not atomic broke off
├── EmbeddedPostgresError            the development server did not start
└── DatabaseError                    sqlstate; __cause__ is SQLAlchemy's
    ├── UnavailableError             retryable: the server is away or busy; try again
    ├── QueryTimeoutError(TimeoutError)
    └── OutcomeUnknownError          the reply to a commit was lost

A message is one lower-case sentence that names the thing and the way out.
Passwords never appear in one.
"""

from __future__ import annotations

from pgqrs.errors.asking import (
    ConfigError,
    EmbeddedPostgresError,
    InvalidConfigError,
    InvalidStateError,
    LeaseLostError,
    MessageNotFoundError,
    MissingConfigError,
    NotFoundError,
    PartlyEnqueuedError,
    PayloadError,
    PgqrsError,
    QueueNotFoundError,
    RateLimitedError,
    RoleNotFoundError,
    SchemaError,
    SchemaMissingError,
    SchemaVersionError,
    WorkerHasPendingMessagesError,
    WorkerNotFoundError,
)
from pgqrs.errors.conflict import (
    ConflictError,
    DuplicateMessageError,
    QueueExistsError,
    QueueInUseError,
    QueueNotEmptyError,
    ThrottledError,
    WorkerExistsError,
)
from pgqrs.errors.database import (
    DatabaseError,
    OutcomeUnknownError,
    QueryTimeoutError,
    UnavailableError,
)

__all__ = [
    "ConfigError",
    "ConflictError",
    "DatabaseError",
    "DuplicateMessageError",
    "EmbeddedPostgresError",
    "InvalidConfigError",
    "InvalidStateError",
    "LeaseLostError",
    "MessageNotFoundError",
    "MissingConfigError",
    "NotFoundError",
    "OutcomeUnknownError",
    "PartlyEnqueuedError",
    "PayloadError",
    "PgqrsError",
    "QueryTimeoutError",
    "QueueExistsError",
    "QueueInUseError",
    "QueueNotEmptyError",
    "QueueNotFoundError",
    "RateLimitedError",
    "RoleNotFoundError",
    "SchemaError",
    "SchemaMissingError",
    "SchemaVersionError",
    "ThrottledError",
    "UnavailableError",
    "WorkerExistsError",
    "WorkerHasPendingMessagesError",
    "WorkerNotFoundError",
]
