"""What a producer does, prepared as calls for the sync and asyncio classes alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection

from pgqrs.bell import Bell
from pgqrs.bucket import Bucket
from pgqrs.call import Call, call
from pgqrs.errors import PayloadError, RateLimitedError
from pgqrs.message import Message
from pgqrs.operations import enqueue as operations
from pgqrs.operations.enqueue import Envelope
from pgqrs.payload import encode
from pgqrs.registration import Registration
from pgqrs.statements.wake import channel_of
from pgqrs.types import Duration, QueueMessage, RateLimitStatus, WorkerRole, span
from pgqrs.validation import checker
from pgqrs.worker import WorkerSteps

__all__ = ["ProducerSteps"]


class ProducerSteps(WorkerSteps):
    """Each public method checks its arguments and gives the call that does it."""

    role = WorkerRole.PRODUCER

    def __init__(self, registration: Registration, *, joined: bool = False) -> None:
        super().__init__(registration, joined=joined)
        self.bell = Bell()
        self._channel = channel_of(self.schema, self.queue)
        rate, burst = self.config.max_enqueue_per_second, self.config.max_enqueue_burst
        self._bucket = None if rate is None else Bucket(rate, burst)
        self._limit = self.config.max_payload_bytes
        self._check = checker(self.config.validation)

    def enqueuing(
        self, payload: Any, priority: int, delay: Duration, max_attempts: int | None
    ) -> Call[QueueMessage]:
        """Add one message. Raises PayloadError, RateLimitedError, ValueError."""
        envelope = self._envelope(priority, delay, max_attempts, _type_of(payload))
        text = encode(payload, self._limit, self._check)
        self._spend(1)
        return Call(partial(self._enqueue, envelope=envelope, text=text), changes=True)

    def enqueuing_many(
        self, payloads: Iterable[Any], priority: int, delay: Duration, max_attempts: int | None
    ) -> Call[list[QueueMessage]]:
        """Add a batch: one statement, or several in a transaction. Raises as `enqueuing`."""
        envelope = self._envelope(priority, delay, max_attempts)
        chunks = list(self._chunks(payloads, envelope))
        self._spend(sum(len(texts) for _, texts in chunks))
        step = partial(self._enqueue_many, chunks=chunks)
        return Call(step, changes=True, together=len(chunks) > 1)

    def enqueuing_in_parts(
        self, payloads: Iterable[Any], priority: int, delay: Duration, max_attempts: int | None
    ) -> Iterator[Call[list[QueueMessage]]]:
        """Add a batch in calls of their own, one for each statement; reads no further than needed.

        Raises as `enqueuing`: ValueError at once, the others when it comes to the payload.
        """
        envelope = self._envelope(priority, delay, max_attempts)
        return map(self._part, self._chunks(payloads, envelope))

    def extending(self, message: QueueMessage | int, by: Duration) -> Call[QueueMessage]:
        """Postpone what this producer enqueued, or extend its present lease. Raises ValueError."""
        message_id = message if isinstance(message, int) else message.id
        return call(self._extend, message_id, span(by))

    def ringing(self) -> Call[None]:
        """Send a notification by itself."""
        return call(operations.notify, self._channel)

    def rate_limit_status(self) -> RateLimitStatus | None:
        """Give how much may be sent now; None where that is not limited."""
        return None if self._bucket is None else self._bucket.status()

    def _part(self, chunk: tuple[Envelope, list[str]]) -> Call[list[QueueMessage]]:
        self._spend(len(chunk[1]))
        return Call(partial(self._enqueue_many, chunks=[chunk]), changes=True)

    def _spend(self, count: int) -> None:
        """Take a token for each message, when all that can be wrong with them was looked at."""
        if self._bucket is not None and (wait := self._bucket.take(count)) is not None:
            raise RateLimitedError(self.queue, wait)

    def _with_bell(self, envelope: Envelope) -> Envelope:
        """Say whether the INSERT notifies. In the caller's transaction it does, at its commit."""
        if envelope.delay or not self.config.enable_listen_notify:
            return envelope
        rings = self.joined or self.bell.rings_along()
        return replace(envelope, rings=rings, channel=self._channel)

    def _envelope(
        self,
        priority: int,
        delay: Duration,
        max_attempts: int | None,
        message_type: str | None = None,
    ) -> Envelope:
        if not -32768 <= priority <= 32767:
            raise ValueError(f"a priority is between -32768 and 32767, not {priority}")
        if max_attempts is not None and not 1 <= max_attempts <= 1_000_000:
            raise ValueError(f"max_attempts is between 1 and 1,000,000, not {max_attempts}")
        return Envelope(self.queue, priority, span(delay), max_attempts, message_type)

    def _chunks(
        self, payloads: Iterable[Any], envelope: Envelope
    ) -> Iterator[tuple[Envelope, list[str]]]:
        rows, size = self.config.enqueue_chunk_rows, self.config.enqueue_chunk_bytes
        for kind, run in groupby(self._texts(payloads), key=itemgetter(0)):
            for chunk in operations.chunks(map(itemgetter(1), run), rows, size):
                yield replace(envelope, message_type=kind), chunk

    def _texts(self, payloads: Iterable[Any]) -> Iterator[tuple[str | None, str]]:
        for index, payload in enumerate(payloads):
            try:
                yield _type_of(payload), encode(payload, self._limit, self._check)
            except PayloadError as error:
                sentence = f"item {index} of the batch: {error}"
                raise PayloadError(sentence, error.path, index) from error

    def _enqueue(self, connection: Connection, envelope: Envelope, text: str) -> QueueMessage:
        worker_id = self._worker_id(connection)
        sealed = self._with_bell(envelope)
        message = operations.enqueue(connection, self.schema, sealed, text, worker_id)
        self.beat_if_due(connection)
        return message

    def _enqueue_many(
        self, connection: Connection, chunks: list[tuple[Envelope, list[str]]]
    ) -> list[QueueMessage]:
        worker_id = self._worker_id(connection)
        messages: list[QueueMessage] = []
        for envelope, texts in chunks:
            sealed = self._with_bell(envelope)
            messages += operations.enqueue_many(connection, self.schema, sealed, texts, worker_id)
        self.beat_if_due(connection)
        return messages

    def _extend(self, connection: Connection, message_id: int, by: Any) -> QueueMessage:
        worker_id = self._worker_id(connection)
        return operations.extend_produced(connection, self.schema, message_id, worker_id, by)

    def _worker_id(self, connection: Connection) -> int | None:
        # In the caller's transaction nothing is registered: the id is known, or there is none.
        return self.registration.worker_id if self.joined else self.register(connection)[1]


def _type_of(payload: Any) -> str | None:
    # A plain object is what most are, and pydantic takes long to tell.
    plain = type(payload) is dict
    return payload.message_type if not plain and isinstance(payload, Message) else None
