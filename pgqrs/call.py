"""A thing to do once there is a connection: prepared and checked before one is taken.

The sync and asyncio classes prepare the same calls and differ only in how they wait for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, Final, Generic, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection

__all__ = ["PAUSES", "Call", "TogetherError", "call"]

P = ParamSpec("P")
T = TypeVar("T")

PAUSES: Final = (0.05, 0.2, 1.0)
"""Seconds to wait before a call whose reply was lost is sent again, if it may be."""


class Call(NamedTuple, Generic[T]):
    """A step, and what its caller needs to know to run it.

    `changes`: a lost reply leaves open whether it was done. `repeats`: it may be sent again then,
    because the fence decides. `together`: several statements, so it needs a transaction.
    """

    step: Callable[[Connection], T]
    changes: bool = False
    repeats: bool = False
    together: bool = False


class TogetherError(Exception):
    """A step found, before it changed anything, that it needs a transaction after all."""


def call(
    step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> Call[T]:
    """Give the plain call of a step with these arguments."""

    def run(connection: Connection) -> T:
        return step(connection, *args, **kwargs)

    return Call(run)
