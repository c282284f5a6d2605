"""pgqrs: a PostgreSQL job queue to import next to your own SQLAlchemy application.

Every public name is here and loads its module when first used, so that importing pgqrs costs
nothing until then.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pgqrs._version import __version__

if TYPE_CHECKING:
    from pgqrs.access import Access
    from pgqrs.admin import Admin
    from pgqrs.admin import Admin as PgqrsAdmin
    from pgqrs.client import (
        ClientAdmin,
        ClientConsumer,
        ClientProducer,
        CreateQueueOptions,
        PgqrsClient,
        ReadOptions,
    )
    from pgqrs.config import Config
    from pgqrs.consumer import Consumer
    from pgqrs.errors import (
        ConfigError,
        ConflictError,
        DatabaseError,
        DuplicateMessageError,
        InvalidConfigError,
        InvalidStateError,
        LeaseLostError,
        MessageNotFoundError,
        MissingConfigError,
        NotFoundError,
        OutcomeUnknownError,
        PartlyEnqueuedError,
        PayloadError,
        PgqrsError,
        QueryTimeoutError,
        QueueExistsError,
        QueueInUseError,
        QueueNotEmptyError,
        QueueNotFoundError,
        RateLimitedError,
        RoleNotFoundError,
        SchemaError,
        SchemaMissingError,
        SchemaVersionError,
        ThrottledError,
        UnavailableError,
        WorkerExistsError,
        WorkerHasPendingMessagesError,
        WorkerNotFoundError,
    )
    from pgqrs.errors import InvalidStateError as InvalidState
    from pgqrs.errors import PgqrsError as Error
    from pgqrs.errors import QueueNotFoundError as QueueNotFound
    from pgqrs.errors import WorkerNotFoundError as WorkerNotFound
    from pgqrs.message import Handlers, Message
    from pgqrs.message_info import MessageInfo, MessageState
    from pgqrs.new_message import MessageOptions, NewMessage
    from pgqrs.operations.queues import QueueOptions
    from pgqrs.outcome import Dead, Done, Retry
    from pgqrs.overview import SystemStats, TableStats
    from pgqrs.payload import Json
    from pgqrs.policy import QueuePolicy
    from pgqrs.producer import Producer
    from pgqrs.queue_metrics import QueueMetrics
    from pgqrs.runner import Report, context
    from pgqrs.settings import DatabaseConfig, PerformanceConfig, QueueConfig, Setting
    from pgqrs.several import Runner
    from pgqrs.tables import Archive, Messages, Queues, Table, Workers
    from pgqrs.tables import Archive as PgqrsArchiveTable
    from pgqrs.tables import Messages as PgqrsMessages
    from pgqrs.tables import Queues as PgqrsQueues
    from pgqrs.tables import Workers as PgqrsWorkers
    from pgqrs.types import (
        ArchivedMessage,
        ArchiveMode,
        Duration,
        Maintenance,
        QueueInfo,
        QueueMessage,
        RateLimitStatus,
        WorkerHealth,
        WorkerInfo,
        WorkerRole,
        WorkerStats,
        WorkerStatus,
    )
    from pgqrs.validation import ValidationConfig
    from pgqrs.worker import Worker, WorkerHandle

__all__ = [
    "Access",
    "Admin",
    "Archive",
    "ArchiveMode",
    "ArchivedMessage",
    "ClientAdmin",
    "ClientConsumer",
    "ClientProducer",
    "Config",
    "ConfigError",
    "ConflictError",
    "Consumer",
    "CreateQueueOptions",
    "DatabaseConfig",
    "DatabaseError",
    "Dead",
    "Done",
    "DuplicateMessageError",
    "Duration",
    "Error",
    "Handlers",
    "InvalidConfigError",
    "InvalidState",
    "InvalidStateError",
    "Json",
    "LeaseLostError",
    "Maintenance",
    "Message",
    "MessageInfo",
    "MessageNotFoundError",
    "MessageOptions",
    "MessageState",
    "Messages",
    "MissingConfigError",
    "NewMessage",
    "NotFoundError",
    "OutcomeUnknownError",
    "PartlyEnqueuedError",
    "PayloadError",
    "PerformanceConfig",
    "PgqrsAdmin",
    "PgqrsArchiveTable",
    "PgqrsClient",
    "PgqrsError",
    "PgqrsMessages",
    "PgqrsQueues",
    "PgqrsWorkers",
    "Producer",
    "QueryTimeoutError",
    "QueueConfig",
    "QueueExistsError",
    "QueueInUseError",
    "QueueInfo",
    "QueueMessage",
    "QueueMetrics",
    "QueueNotEmptyError",
    "QueueNotFound",
    "QueueNotFoundError",
    "QueueOptions",
    "QueuePolicy",
    "Queues",
    "RateLimitStatus",
    "RateLimitedError",
    "ReadOptions",
    "Report",
    "Retry",
    "RoleNotFoundError",
    "Runner",
    "SchemaError",
    "SchemaMissingError",
    "SchemaVersionError",
    "Setting",
    "SystemStats",
    "Table",
    "TableStats",
    "ThrottledError",
    "UnavailableError",
    "ValidationConfig",
    "Worker",
    "WorkerExistsError",
    "WorkerHandle",
    "WorkerHasPendingMessagesError",
    "WorkerHealth",
    "WorkerInfo",
    "WorkerNotFound",
    "WorkerNotFoundError",
    "WorkerRole",
    "WorkerStats",
    "WorkerStatus",
    "Workers",
    "__version__",
    "context",
]

_MODULES = {
    "access": ("Access",),
    "admin": ("Admin",),
    "client": (
        "ClientAdmin",
        "ClientConsumer",
        "ClientProducer",
        "CreateQueueOptions",
        "PgqrsClient",
        "ReadOptions",
    ),
    "config": ("Config",),
    "consumer": ("Consumer",),
    "errors": (
        "ConfigError",
        "ConflictError",
        "DatabaseError",
        "DuplicateMessageError",
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
    ),
    "message": ("Handlers", "Message"),
    "message_info": ("MessageInfo", "MessageState"),
    "new_message": ("MessageOptions", "NewMessage"),
    "operations.queues": ("QueueOptions",),
    "outcome": ("Dead", "Done", "Retry"),
    "overview": ("SystemStats", "TableStats"),
    "payload": ("Json",),
    "policy": ("QueuePolicy",),
    "producer": ("Producer",),
    "queue_metrics": ("QueueMetrics",),
    "runner": ("Report", "context"),
    "settings": ("DatabaseConfig", "PerformanceConfig", "QueueConfig", "Setting"),
    "several": ("Runner",),
    "tables": ("Archive", "Messages", "Queues", "Table", "Workers"),
    "types": (
        "ArchiveMode",
        "ArchivedMessage",
        "Duration",
        "Maintenance",
        "QueueInfo",
        "QueueMessage",
        "RateLimitStatus",
        "WorkerHealth",
        "WorkerInfo",
        "WorkerRole",
        "WorkerStats",
        "WorkerStatus",
    ),
    "validation": ("ValidationConfig",),
    "worker": ("Worker", "WorkerHandle"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
_ALIASES = {  # what earlier documents of the project call the same
    "Error": "PgqrsError",
    "InvalidState": "InvalidStateError",
    "PgqrsAdmin": "Admin",
    "PgqrsArchiveTable": "Archive",
    "PgqrsMessages": "Messages",
    "PgqrsQueues": "Queues",
    "PgqrsWorkers": "Workers",
    "QueueNotFound": "QueueNotFoundError",
    "WorkerNotFound": "WorkerNotFoundError",
}


def __getattr__(name: str) -> Any:
    canonical = _ALIASES.get(name, name)
    if canonical not in _HOME:
        raise AttributeError(f"module 'pgqrs' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pgqrs.{_HOME[canonical]}"), canonical)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
