"""What a producer sends of payloads: texts, or items with options, in chunks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from pgqrs.config import Config
from pgqrs.errors import PayloadError
from pgqrs.message import Message
from pgqrs.new_message import Item, NewMessage, OnConflict, item
from pgqrs.payload import encode, encode_all
from pgqrs.types import Duration
from pgqrs.validation import checker

__all__ = ["EACH", "Chunk", "Contents", "Sending"]

T = TypeVar("T", str, Item)

EACH: Final = object()


class Chunk(NamedTuple):
    """What goes in one statement: texts with the type of all of them, or items, of kind EACH."""

    kind: Any
    contents: list[Any]


class Sending(NamedTuple):
    """How to send a message, or all of a batch that say nothing of their own."""

    priority: int = 0
    delay: Duration = 0
    max_attempts: int | None = None
    on_conflict: OnConflict = "raise"
    options: Mapping[str, Any] = {}
    carried: Mapping[str, str] = {}
    """The context of a trace, among the headers of each message."""

    @property
    def is_plain(self) -> bool:
        """Whether it is the same for each message of a batch, and stands beside the payloads."""
        return not (self.options or self.carried)

    def over(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Give the options of a message: its own, and else these."""
        mine = {"priority": self.priority, "max_attempts": self.max_attempts, **self.options}
        if self.delay and not own.keys() & {"delay", "deliver_at"}:
            mine["delay"] = self.delay
        if "delay" in own:
            mine.pop("deliver_at", None)
        every = mine | dict(own)
        theirs = every.get("headers")
        if self.carried and (theirs is None or isinstance(theirs, Mapping)):
            every["headers"] = {**self.carried, **(theirs or {})}
        return every


class Contents:
    """Checks payloads as the configuration asks, and makes chunks of them."""

    def __init__(self, config: Config) -> None:
        self._limit = config.max_payload_bytes
        self._check = checker(config.validation)
        self._rows, self._bytes = config.enqueue_chunk_rows, config.enqueue_chunk_bytes

    def one(self, payload: Any, sending: Sending) -> Chunk:
        """Give what one message is sent as. Raises PayloadError, ValueError, TypeError."""
        kind, content = self._content(payload, sending)
        return Chunk(kind, [content])

    def chunks(self, payloads: Iterable[Any], sending: Sending) -> Iterator[Chunk]:
        """Give what a batch is sent as; reads no further than needed. Raises as `one`."""
        for kind, run in self._runs(payloads, sending):
            for contents in _cut(run, self._rows, self._bytes):
                yield Chunk(kind, contents)

    def _runs(
        self, payloads: Iterable[Any], sending: Sending
    ) -> Iterator[tuple[Any, Iterable[Any]]]:
        """Give runs of what is of one kind."""
        if not (sending.is_plain and self._check is None and isinstance(payloads, list)):
            yield from self._one_by_one(payloads, sending)
            return
        for first in range(0, len(payloads), self._rows):
            some = payloads[first : first + self._rows]
            texts = encode_all(some, self._limit)
            if texts is not None:
                yield None, texts
            else:
                yield from self._one_by_one(some, sending, first)

    def _one_by_one(
        self, payloads: Iterable[Any], sending: Sending, first: int = 0
    ) -> Iterator[tuple[Any, Iterable[Any]]]:
        contents = self._contents(enumerate(payloads, first), sending)
        for kind, run in groupby(contents, key=itemgetter(0)):
            yield kind, map(itemgetter(1), run)

    def _contents(
        self, payloads: Iterable[tuple[int, Any]], sending: Sending
    ) -> Iterator[tuple[Any, Any]]:
        for index, payload in payloads:
            try:
                yield self._content(payload, sending)
            except PayloadError as error:
                sentence = f"item {index} of the batch: {error}"
                raise PayloadError(sentence, error.path, index) from error

    def _content(self, payload: Any, sending: Sending) -> tuple[Any, Any]:
        """Give the message's type and its payload's text, or EACH and an Item."""
        own: Mapping[str, Any] | None = None
        if type(payload) is NewMessage:
            own, payload = payload.options(), payload.payload
        kind, text = _type_of(payload), encode(payload, self._limit, self._check)
        if own is None and sending.is_plain:
            return kind, text
        return EACH, item(text, kind, sending.over(own or {}))


def _type_of(payload: Any) -> str | None:
    # A plain object is what most are, and pydantic takes long to tell.
    plain = type(payload) is dict
    return payload.message_type if not plain and isinstance(payload, Message) else None


def _cut(items: Iterable[T], rows: int, size: int) -> Iterator[list[T]]:
    """Cut texts, or items, into runs of at most `rows` and about `size` bytes (one at least)."""
    chunk: list[T] = []
    weight = 0
    for item_ in items:
        text = item_ if isinstance(item_, str) else item_.json
        more = len(text) if text.isascii() else len(text.encode())
        if chunk and (len(chunk) >= rows or weight + more > size):
            yield chunk
            chunk, weight = [], 0
        chunk.append(item_)
        weight += more
    if chunk:
        yield chunk
