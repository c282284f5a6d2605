"""What the sync and the asyncio functions of `pgqrs.testing` ask of the database, as calls."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from sqlalchemy import Connection

from pgqrs.call import Call, call
from pgqrs.message_info import MessageInfo
from pgqrs.operations import clock, intervene
from pgqrs.types import Duration, QueueInfo, name_of, span

__all__ = ["listing", "moving"]

_ALL: Final = 2**31


def moving(schema: str, by: Duration) -> Call[None]:
    """Let time pass. Raises ValueError."""
    return call(clock.move_back, schema, span(by))


def listing(schema: str, queue: str | QueueInfo) -> Call[list[MessageInfo]]:
    """Give all messages of a queue, the oldest first. Raises QueueNotFoundError."""

    def step(connection: Connection) -> list[MessageInfo]:
        messages = intervene.page(connection, schema, name_of(queue), _ALL, 0)
        return sorted(messages, key=attrgetter("id"))

    return Call(step)
