"""Where tracing takes hold: nothing is here, and nothing is done, until somebody puts a tracer in.

What it is made of, is in `pgqrs.tracing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

__all__ = ["Sent", "Tracer", "set_tracer", "traced_handler", "tracer"]

T = TypeVar("T")


class Sent(Protocol):
    """A call that enqueues, from when it is prepared until it is done."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the messages carry."""
        ...

    def around(self, step: Callable[[Connection], T]) -> Callable[[Connection], T]:
        """Give the step that does the same, and then ends this."""
        ...

    def done(self, error: BaseException | None = None) -> None:
        """End this: all is sent, or because of an error it is not."""
        ...


class Tracer(Protocol):
    """Told of what is sent and what is worked at."""

    def sending(self, queue: str) -> Sent:
        """Begin to enqueue."""
        ...

    def handler(
        self, queue: str, handler: Callable[..., Any], *, is_async: bool
    ) -> Callable[..., Any]:
        """Give a handler that does the same, and is told of."""
        ...


_tracer: Tracer | None = None


def tracer() -> Tracer | None:
    """Give the tracer that was put in, if there is one."""
    return _tracer


def set_tracer(wanted: Tracer | None) -> None:
    """Put a tracer in, or take it out. Handlers that run already stay as they are."""
    global _tracer
    _tracer = wanted


def traced_handler(
    queue: str, handler: Callable[..., Any], *, is_async: bool
) -> Callable[..., Any]:
    """Give the handler as it is to be called: itself, where there is no tracer."""
    return handler if _tracer is None else _tracer.handler(queue, handler, is_async=is_async)
