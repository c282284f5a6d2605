"""Where the examples run: a PostgreSQL for the occasion, or the one that PGQRS_DSN names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Unpack

from sqlalchemy import Engine, create_engine

import pgqrs
from pgqrs.embedded import EmbeddedPostgres

__all__ = ["ATTEMPTS", "giving_up", "opened"]

ATTEMPTS = 5


@contextmanager
def opened(queue: str, **options: Unpack[pgqrs.QueueOptions]) -> Iterator[Engine]:
    """Give an engine on a database with pgqrs and a queue."""
    options = {"max_attempts": ATTEMPTS, **options}
    with ExitStack() as stack:
        dsn = os.environ.get("PGQRS_DSN")
        dsn = dsn or stack.enter_context(EmbeddedPostgres(durable=False)).dsn()
        engine = create_engine(pgqrs.Config.from_dsn(dsn).url)
        stack.callback(engine.dispose)
        with pgqrs.Admin(engine) as admin:
            admin.install()
            admin.create_queue(queue, exist_ok=True, **options)
        yield engine


@contextmanager
def giving_up(consumer: pgqrs.Consumer, message: pgqrs.QueueMessage) -> Iterator[None]:
    """Stop the consumer where the last attempt at a message fails: nobody waits for the dead."""
    try:
        yield
    except Exception:
        if message.attempts >= ATTEMPTS:
            consumer.stop()
        raise
