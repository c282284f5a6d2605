"""The same classes for asyncio: each method prepares the same call and awaits it.

Sync classes take sync engines and sessions, these take asyncio ones. Needs SQLAlchemy's asyncio
extra, which pgqrs installs.
"""

from __future__ import annotations

from pgqrs.aio.admin import AsyncAdmin
from pgqrs.aio.client import (
    AsyncClientAdmin,
    AsyncClientConsumer,
    AsyncClientProducer,
    AsyncPgqrsClient,
)
from pgqrs.aio.consumer import AsyncConsumer
from pgqrs.aio.producer import AsyncProducer
from pgqrs.aio.several import AsyncRunner
from pgqrs.aio.worker import AsyncWorkerHandle

__all__ = [
    "AsyncAdmin",
    "AsyncClientAdmin",
    "AsyncClientConsumer",
    "AsyncClientProducer",
    "AsyncConsumer",
    "AsyncPgqrsClient",
    "AsyncProducer",
    "AsyncRunner",
    "AsyncWorkerHandle",
]
