"""A message to be added, with what may be said of it beside its payload."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypedDict

from pgqrs.checks import checked_attempts, checked_name, checked_priority
from pgqrs.payload import Json, encode
from pgqrs.types import Duration, span

__all__ = ["Item", "MessageOptions", "MoreOptions", "NewMessage", "OnConflict", "item"]

OnConflict = Literal["raise", "skip"]
"""What to do with a message that another one keeps out: raise ConflictError, or give None."""


class MoreOptions(TypedDict, total=False):
    """The options of a message that `enqueue` does not name; see MessageOptions."""

    deliver_at: dt.datetime | None
    retry_delay: Duration | None
    retry_delay_max: Duration | None
    retry_backoff: bool | None
    expire_in: Duration | None
    retain_for: Duration | None
    dead_letter: str | None
    singleton_key: str | None
    singleton_for: Duration | None
    ordering_key: str | None
    message_id: uuid.UUID | str | None
    headers: Mapping[str, Any] | None


class MessageOptions(MoreOptions, total=False):
    """What a message may be given beside its payload; None, or left out: as the queue has it.

    Durations are seconds or timedeltas.
    `priority`: higher ones are leased first, -32768 to 32767.
    `delay`, or `deliver_at` (an aware datetime): when it is due.
    `max_attempts`: leases before it is dead.
    `retry_delay`, `retry_delay_max`, `retry_backoff`: how long after a failed attempt it is due
    again; with backoff the delay doubles each time, up to the most, and varies by a fifth.
    `expire_in`: how long the lease of each attempt lasts, whatever the consumer asks for.
    `retain_for`: how long it is kept, at least: in the archive from when it is finished; never
    leased, it goes there as expired that long after it was due.
    `dead_letter`: the queue that gets a copy when it is dead; empty text: none.
    `singleton_key`: its key under the policy of the queue, or of its window.
    `singleton_for`: no other message with this key (or without one) gets in for so long.
    `ordering_key`: its key in a queue of policy fifo.
    `message_id`: an id of yours, a UUID: no other message of the queue gets in with it, while this
    one is in the queue or in the archive.
    `headers`: an object of JSON, 16 KiB at most, such as a tracing context.
    """

    priority: int | None
    delay: Duration | None
    max_attempts: int | None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A payload with options of its own, for `enqueue` and `batch_enqueue`; see MessageOptions.

    What is None is as the call has it.
    """

    payload: Any
    priority: int | None = None
    delay: Duration | None = None
    deliver_at: dt.datetime | None = None
    max_attempts: int | None = None
    retry_delay: Duration | None = None
    retry_delay_max: Duration | None = None
    retry_backoff: bool | None = None
    expire_in: Duration | None = None
    retain_for: Duration | None = None
    dead_letter: str | None = None
    singleton_key: str | None = None
    singleton_for: Duration | None = None
    ordering_key: str | None = None
    message_id: uuid.UUID | str | None = None
    headers: Mapping[str, Any] | None = None

    def options(self) -> dict[str, Any]:
        """Give the options that are set."""
        return {name: value for name in _NAMES if (value := getattr(self, name)) is not None}


_NAMES: Final = tuple(each.name for each in fields(NewMessage) if each.name != "payload")
_HEADERS_BYTES: Final = 16_384
_LONGEST_KEY: Final = 255
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000


@dataclass(frozen=True, slots=True)
class Item:
    """A checked message as it is sent: its payload, and the JSON of all of it."""

    payload: str
    json: str
    kind: str | None
    headers: str | None
    options: Mapping[str, Any]
    """What was checked, by the names of MessageOptions."""


def item(payload: str, kind: str | None, options: Mapping[str, Any]) -> Item:
    """Check the options of a message. Raises TypeError, ValueError, PayloadError."""
    checked = _checked(options)
    if checked.get("delay") and "deliver_at" in checked:
        raise ValueError("give a delay or deliver_at, not both")
    headers = checked.get("headers")
    sent = {sent: checked[name] for name, sent in _SENT.items() if name in checked}
    lasting: dict[str, Any] = {name: checked[name] for name in _LASTING if name in checked}
    if "singleton_for" in checked:
        lasting["window"] = checked.get("singleton_key", "")
    fields_ = json.dumps(sent | {"kind": kind} | ({"options": lasting} if lasting else {}))
    parts = [f'{{"payload":{payload}', *([f'"headers":{headers}'] if headers else []), fields_[1:]]
    return Item(payload, ",".join(parts), kind, headers, checked)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _CHECKS:
            raise TypeError(f"a message has no option {name!r}: it has {', '.join(_CHECKS)}")
        if value is not None:
            checked[name] = _CHECKS[name](value)
    return checked


def _seconds(value: Duration) -> float:
    return span(value).total_seconds()


def _some_seconds(value: Duration) -> float:
    if not (seconds := _seconds(value)):
        raise ValueError("expire_in, retain_for and singleton_for are longer than 0 seconds")
    return seconds


def _instant(value: dt.datetime) -> str:
    if not isinstance(value, dt.datetime):
        raise TypeError(f"deliver_at is a datetime, not {value!r}")
    if value.tzinfo is None:
        raise ValueError(f"deliver_at has a time zone, unlike {value!r}: say .astimezone() first")
    try:
        instant = value.astimezone(dt.UTC)
    except OverflowError:
        instant = dt.datetime.min.replace(tzinfo=dt.UTC)
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise ValueError(f"deliver_at is between {_FIRST_YEAR} and {_LAST_YEAR}, not {value!r}")
    return instant.isoformat()


def _key(value: str) -> str:
    plain = isinstance(value, str) and len(value) <= _LONGEST_KEY and "\0" not in value
    if not plain or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"a key is text of up to {_LONGEST_KEY} characters: {value!r}")
    return value


def _headers(value: Mapping[str, Any]) -> str:
    if not isinstance(value, Mapping) or "pgqrs" in value:
        raise ValueError("headers are a dict with keys of yours; 'pgqrs' is not one of them")
    return encode(Json(dict(value)), _HEADERS_BYTES)


_CHECKS: Final[dict[str, Callable[[Any], Any]]] = {
    "priority": checked_priority,
    "delay": _seconds,
    "deliver_at": _instant,
    "max_attempts": checked_attempts,
    "retry_delay": _seconds,
    "retry_delay_max": _seconds,
    "retry_backoff": bool,
    "expire_in": _some_seconds,
    "retain_for": _some_seconds,
    "dead_letter": lambda value: value and checked_name(value),
    "singleton_key": _key,
    "singleton_for": _some_seconds,
    "ordering_key": _key,
    "message_id": lambda value: str(uuid.UUID(str(value))),
    "headers": _headers,
}
_SENT: Final = {
    "priority": "rank",
    "delay": "delay",
    "deliver_at": "at",
    "max_attempts": "attempts",
    "message_id": "message_id",
    "singleton_key": "single",
    "singleton_for": "window",
    "ordering_key": "ordering",
}
_LASTING: Final = (
    "retry_delay",
    "retry_delay_max",
    "retry_backoff",
    "expire_in",
    "retain_for",
    "dead_letter",
)
