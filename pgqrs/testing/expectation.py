"""What a test expects of a message in a queue, and how to say that there is none. No I/O."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pgqrs.message import Message
from pgqrs.message_info import MessageInfo, MessageState
from pgqrs.new_message import MoreOptions, item
from pgqrs.payload import decode, encode
from pgqrs.types import Duration, QueueInfo, name_of

__all__ = ["ANY", "Expectation", "Traits"]

ANY: Final[Any] = ...
"""Any payload: none is expected."""

_SHOWN: Final = 20
_LONGEST: Final = 300
_TOLERANCE: Final = 0.1  # seconds
_NOT_KEPT: Final = "singleton_for is no part of a message: look for its singleton_key instead"


class Traits(MoreOptions, total=False):
    """What may be expected of a message beside its payload; see MessageOptions."""

    message_type: str | None
    containing: Any
    priority: int | None
    delay: Duration | None
    max_attempts: int | None


class Expectation:
    """A payload, or a part of one, and options that a message was to be enqueued with.

    Raises TypeError, ValueError and PayloadError for what no message can have.
    """

    def __init__(self, payload: Any, traits: Traits) -> None:
        given: dict[str, Any] = {name: value for name, value in traits.items() if value is not None}
        part = given.pop("containing", ANY)
        self._type = given.pop("message_type", _type_of(payload) or _type_of(part))
        self._part = ANY if part is ANY else _value(part)
        if "singleton_for" in given:
            raise TypeError(_NOT_KEPT)
        self._whole = ANY if payload is ANY else _value(payload)
        self._options = dict(item("null", None, given).options)
        if "headers" in self._options:
            self._options["headers"] = decode(self._options["headers"])

    def fits(self, message: MessageInfo) -> bool:
        """Say whether a message is as expected."""
        there = _options_of(message)
        return (
            (self._whole is ANY or _same(message.payload, self._whole))
            and (self._part is ANY or _contains(message.payload, self._part))
            and self._type in (None, message.message_type)
            and all(_agree(name, there.get(name), value) for name, value in self._options.items())
        )

    def found_in(self, queue: str | QueueInfo, messages: Sequence[MessageInfo]) -> MessageInfo:
        """Give the first that is as expected. Raises AssertionError, which lists them all."""
        __tracebackhide__ = True
        found = next(filter(self.fits, messages), None)
        if found is None:
            raise AssertionError(f"no message with {self}: {_listed(queue, messages)}")
        return found

    def missing_in(self, queue: str | QueueInfo, messages: Sequence[MessageInfo]) -> None:
        """Raise AssertionError where one is as expected, and list those that are."""
        __tracebackhide__ = True
        if found := list(filter(self.fits, messages)):
            raise AssertionError(f"a message with {self}: {_listed(queue, found)}")

    def __str__(self) -> str:
        words = [] if self._whole is ANY else [f"payload={_short(self._whole)}"]
        words += [] if self._part is ANY else [f"containing={_short(self._part)}"]
        words += [] if self._type is None else [f"message_type={self._type!r}"]
        words += [f"{name}={value!r}" for name, value in self._options.items()]
        return ", ".join(words) or "any payload"


def _listed(queue: str | QueueInfo, messages: Sequence[MessageInfo]) -> str:
    name = name_of(queue)
    if not messages:
        return f"queue {name!r} is empty"
    lines = [f"queue {name!r} has", *map(_line, messages[:_SHOWN])]
    if (more := len(messages) - _SHOWN) > 0:
        lines.append(f"  and {more} more")
    return "\n".join(lines)


def _options_of(message: MessageInfo) -> dict[str, Any]:
    """Give what a message was enqueued with, in the form in which options are checked."""
    lasting = dict(message.options or {})
    return {
        "singleton_key": lasting.pop("window", message.key),
        **lasting,
        "priority": message.priority,
        "delay": (message.vt - message.enqueued_at).total_seconds(),
        "deliver_at": message.vt.astimezone(dt.UTC).isoformat(),
        "max_attempts": message.max_attempts,
        "ordering_key": message.key,
        "message_id": None if message.message_id is None else str(message.message_id),
        "headers": message.headers,
    }


def _agree(name: str, there: Any, wanted: Any) -> bool:
    # What waited for the lock of a key was enqueued a little later than it counts its delay from.
    return _same(there, wanted) or (name == "delay" and abs(there - wanted) < _TOLERANCE)


def _contains(whole: Any, part: Any) -> bool:
    """Say whether a JSON value contains another one, as the operator @> of jsonb does."""
    if isinstance(whole, list) and not isinstance(part, Mapping | list):  # at the top only
        return any(_same(one, part) for one in whole)
    return _holds(whole, part)


def _holds(whole: Any, part: Any) -> bool:
    if isinstance(part, Mapping):
        keys = isinstance(whole, Mapping) and part.keys() <= whole.keys()
        return keys and all(_holds(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        items = isinstance(whole, list)
        return items and all(any(_holds(one, each) for one in whole) for each in part)
    return _same(whole, part)


def _same(one: Any, other: Any) -> bool:
    """Say whether two JSON values are equal, as to jsonb: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _type_of(payload: Any) -> str | None:
    return payload.message_type if isinstance(payload, Message) else None


def _value(payload: Any) -> Any:
    return decode(encode(payload))


def _line(message: MessageInfo) -> str:
    there = _options_of(message)
    there["delay"] = round(there["delay"], 1)
    usual = {"priority": 0, "delay": 0.0, "deliver_at": there["deliver_at"]}
    if message.state == MessageState.RETRY:
        usual["delay"] = there["delay"]  # that of the retry
    if message.key is not None and there["singleton_key"] == message.key:
        usual["ordering_key"] = message.key  # the policy of the queue says which it is
    own = [
        f"{name}={value!r}"
        for name, value in there.items()
        if value is not None and usual.get(name) != value
    ]
    kind = [] if message.message_type is None else [f"message_type={message.message_type!r}"]
    said = ", ".join([_short(message.payload), *kind, *own])
    return f"  message {message.id} ({message.state}): {said}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
