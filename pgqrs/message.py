"""Typed messages: a pydantic model with a name, and handlers found by that name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final, TypeVar

from pydantic import BaseModel

from pgqrs.types import QueueMessage

__all__ = ["Handlers", "Message"]

M = TypeVar("M", bound=BaseModel)
H = TypeVar("H", bound=Callable[..., Any])

_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_LONGEST: Final = 200


class Message(BaseModel):
    """The base of typed payloads: ``class EmailMessage(Message, message_type="email")``.

    `message_type` is kept with the message, and a consumer finds the handler by it. Without one it
    is the class's name in snake case: ``EmailMessage`` is ``email_message``.
    """

    message_type: ClassVar[str] = "message"

    def __init_subclass__(cls, message_type: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = message_type or _WORD.sub("_", cls.__name__).lower()
        if not 1 <= len(name) <= _LONGEST:
            raise ValueError(f"a message type has 1 to {_LONGEST} characters, not {len(name)}")
        cls.message_type = name


class Handlers:
    """Handlers by message type, to be given to `run`.

    A message of a type that is not here is given back at once, delayed, at no attempt's cost: a
    newer worker will know it. All handlers are plain functions, or all are coroutine functions.
    """

    def __init__(self) -> None:
        self._by_type: dict[str, tuple[Callable[..., Any], type[BaseModel]]] = {}

    def on(self, model: type[M]) -> Callable[[H], H]:
        """Register a handler of `QueueMessage[model]`, as a decorator.

        Raises ValueError for a type that has one already, and TypeError for a coroutine function
        beside plain ones or the reverse.
        """

        def register(handler: H) -> H:
            name = type_of(model)
            if name in self._by_type:
                raise ValueError(f"there is a handler for message type {name!r} already")
            if self._by_type and inspect.iscoroutinefunction(handler) != self.is_async:
                raise TypeError("handlers are all plain functions, or all coroutine functions")
            self._by_type[name] = (handler, model)
            return handler

        return register

    @property
    def types(self) -> list[str]:
        """The message types there are handlers for."""
        return sorted(self._by_type)

    @property
    def is_async(self) -> bool:
        """Whether the handlers are coroutine functions."""
        return any(inspect.iscoroutinefunction(handler) for handler, _ in self._by_type.values())

    def knows(self, message: QueueMessage[Any]) -> bool:
        """Say whether there is a handler for this message."""
        return message.message_type in self._by_type

    def __call__(self, message: QueueMessage[Any], *more: Any) -> Any | Awaitable[Any]:
        """Call the handler for a message. Raises PayloadError where it does not fit its model.

        `more` is what handlers get besides: the session of `run(session=...)`.
        """
        handler, model = self._by_type[message.message_type or ""]
        typed = message.typed(model)
        _ = typed.payload  # does it fit?
        return handler(typed, *more)


def type_of(model: type[BaseModel]) -> str:
    """Give the message type of a model."""
    name = getattr(model, "message_type", None)
    return name if isinstance(name, str) else _WORD.sub("_", model.__name__).lower()
