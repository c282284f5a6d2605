"""What a producer does, prepared as calls for the sync and asyncio classes alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Self, TypeVar, get_args

from sqlalchemy import Connection

from pgqrs import hook
from pgqrs.bell import Bell
from pgqrs.binding import is_together
from pgqrs.bucket import Bucket
from pgqrs.call import Call, TogetherError, call
from pgqrs.checks import checked_attempts, checked_ids, checked_priority
from pgqrs.contents import EACH, Chunk, Contents, Sending
from pgqrs.errors import (
    ConflictError,
    NotFoundError,
    QueueNotFoundError,
    RateLimitedError,
)
from pgqrs.joining import may_notify
from pgqrs.new_message import Item, OnConflict, item
from pgqrs.operations import enqueue as operations
from pgqrs.operations.enqueue import Envelope
from pgqrs.operations.enqueue_each import Bundle, enqueue_each, keys_of, take_back
from pgqrs.policy import QueuePolicy
from pgqrs.registration import Registration
from pgqrs.statements.wake import channel_of
from pgqrs.types import Duration, QueueMessage, RateLimitStatus, WorkerRole, span
from pgqrs.worker import WorkerSteps

__all__ = ["ProducerSteps"]

T = TypeVar("T")

_ON_CONFLICT: Final = get_args(OnConflict)


class ProducerSteps(WorkerSteps):
    """Each public method checks its arguments and gives the call that does it.

    Most messages have no options of their own, and most queues no policy: for those there are
    statements that know nothing of either. In a queue with a policy they find nothing, once.
    """

    role = WorkerRole.PRODUCER

    def __init__(self, registration: Registration, *, joined: bool = False) -> None:
        super().__init__(registration, joined=joined)
        self.bell = Bell()
        self._channel = channel_of(self.schema, self.queue)
        rate, burst = self.config.max_enqueue_per_second, self.config.max_enqueue_burst
        self._bucket = None if rate is None else Bucket(rate, burst)
        self._contents = Contents(self.config)
        self._has_policy = False

    def joining(self) -> Self:
        """Give the steps for the caller's transaction, in which no notification is ever owed."""
        twin = super().joining()
        twin.bell = Bell()
        return twin

    def enqueuing(self, payload: Any, sending: Sending) -> Call[QueueMessage | None]:
        """Add one message; None where it is kept out and that is to be skipped.

        Raises PayloadError, RateLimitedError, ValueError, TypeError.
        """
        return self._traced(partial(self._one, payload), sending)

    def enqueuing_many(
        self, payloads: Iterable[Any], sending: Sending
    ) -> Call[list[QueueMessage | None]]:
        """Add a batch: one statement, or several in a transaction. Raises as `enqueuing`."""
        return self._traced(partial(self._many, payloads), sending)

    def enqueuing_in_parts(
        self, payloads: Iterable[Any], sending: Sending
    ) -> Iterator[Call[list[QueueMessage | None]]]:
        """Add a batch in calls of their own, one for each statement; reads no further than needed.

        Raises as `enqueuing`: ValueError at once, the others when it comes to the payload.
        """
        envelope = self._envelope(sending)
        tracer = hook.tracer()
        if tracer is None:
            return map(partial(self._part, envelope), self._contents.chunks(payloads, sending))
        return self._traced_parts(tracer.sending(self.queue), envelope, payloads, sending)

    def extending(self, message: QueueMessage | int, by: Duration) -> Call[QueueMessage]:
        """Postpone what this producer enqueued, or extend its present lease. Raises ValueError."""
        given = message.id if isinstance(message, QueueMessage) else message
        (message_id,) = checked_ids([given])
        return call(self._extend, message_id, span(by))

    def ringing(self) -> Call[None]:
        """Send a notification by itself."""
        return call(operations.notify, self._channel)

    def rate_limit_status(self) -> RateLimitStatus | None:
        """Give how much may be sent now; None where that is not limited."""
        return None if self._bucket is None else self._bucket.status()

    def _one(self, payload: Any, sending: Sending) -> Call[QueueMessage | None]:
        envelope = self._envelope(sending)
        chunk = self._contents.one(payload, sending)
        self._spend(1)
        # A key is to be free again where another one, or the queue's policy, keeps the message out.
        apart = _keys_of(chunk) > (0 if self._has_policy_now() else 1)
        step = partial(self._enqueue, envelope=envelope, chunk=chunk)
        return Call(step, changes=True, together=apart)

    def _many(self, payloads: Iterable[Any], sending: Sending) -> Call[list[QueueMessage | None]]:
        envelope = self._envelope(sending)
        chunks = list(self._contents.chunks(payloads, sending))
        self._spend(sum(len(contents) for _, contents in chunks))
        return self._batch(envelope, chunks)

    def _traced(self, prepare: Callable[[Sending], Call[T]], sending: Sending) -> Call[T]:
        """Prepare a call; where there is a tracer, one that it is told of."""
        tracer = hook.tracer()
        if tracer is None:
            return prepare(sending)
        sent = tracer.sending(self.queue)
        try:
            call_ = prepare(sending._replace(carried=sent.headers))
        except BaseException as error:
            sent.done(error)
            raise
        return call_._replace(step=sent.around(call_.step))

    def _traced_parts(
        self, sent: hook.Sent, envelope: Envelope, payloads: Iterable[Any], sending: Sending
    ) -> Iterator[Call[list[QueueMessage | None]]]:
        try:
            for chunk in self._contents.chunks(payloads, sending._replace(carried=sent.headers)):
                yield self._part(envelope, chunk)
        except BaseException as error:  # also that nobody asked for the rest
            sent.done(error)
            raise
        sent.done()

    def _part(self, envelope: Envelope, chunk: Chunk) -> Call[list[QueueMessage | None]]:
        self._spend(len(chunk[1]))
        return self._batch(envelope, [chunk])

    def _batch(self, envelope: Envelope, chunks: list[Chunk]) -> Call[list[QueueMessage | None]]:
        # Where one is kept out, all of it is to be undone.
        each = self._has_policy_now() or any(kind is EACH for kind, _ in chunks)
        step = partial(self._enqueue_many, envelope=envelope, chunks=chunks)
        return Call(step, changes=True, together=len(chunks) > 1 or each)

    def _spend(self, count: int) -> None:
        """Take a token for each message, when all that can be wrong with them was looked at."""
        if self._bucket is not None and (wait := self._bucket.take(count)) is not None:
            raise RateLimitedError(self.queue, wait)

    def _rings(self, connection: Connection, *, due: bool) -> bool:
        """Say whether the INSERT notifies. In the caller's transaction it does, at its commit."""
        if not due or not self.config.enable_listen_notify:
            return False
        return may_notify(connection) if self.joined else self.bell.rings_along()

    def _envelope(self, sending: Sending) -> Envelope:
        if sending.on_conflict not in _ON_CONFLICT:
            raise ValueError(f"on_conflict is 'raise' or 'skip', not {sending.on_conflict!r}")
        if sending.max_attempts is not None:
            checked_attempts(sending.max_attempts)
        return Envelope(
            self.queue,
            checked_priority(sending.priority),
            span(sending.delay),
            sending.max_attempts,
            skips=sending.on_conflict == "skip",
            channel=self._channel,
        )

    def _enqueue(
        self, connection: Connection, envelope: Envelope, chunk: Chunk
    ) -> QueueMessage | None:
        worker_id = self._worker_id(connection)
        kind, (content,) = chunk
        message: QueueMessage | None = None
        if plain := kind is not EACH and not self._has_policy_now():
            rings = self._rings(connection, due=not envelope.delay)
            sealed = envelope._replace(message_type=kind, rings=rings)
            try:
                message = operations.enqueue(connection, self.schema, sealed, content, worker_id)
            except QueueNotFoundError:
                plain = False
        if not plain:
            if _keys_of(chunk):
                self._look_at_policy(connection)
            (message,) = self._each(connection, envelope, chunk, worker_id)
        self.beat_if_due(connection)
        return message

    def _enqueue_many(
        self, connection: Connection, envelope: Envelope, chunks: list[Chunk]
    ) -> list[QueueMessage | None]:
        worker_id = self._worker_id(connection)
        self._look_at_policy(connection)
        messages: list[QueueMessage | None] = []
        try:
            for chunk in chunks:
                messages += self._chunk(connection, envelope, chunk, worker_id, len(messages))
        except (ConflictError, NotFoundError, ValueError):
            if self.joined:  # else all is rolled back
                items = [each for kind, some in chunks for each in _items_of(kind, some)]
                take_back(connection, self.schema, items, messages)
            raise
        self.beat_if_due(connection)
        return messages

    def _look_at_policy(self, connection: Connection) -> None:
        """Ask for a transaction where the queue's policy may keep some of this out, and none is."""
        if self._has_policy_now() and not self.joined and not is_together(connection):
            raise TogetherError

    def _chunk(
        self,
        connection: Connection,
        envelope: Envelope,
        chunk: Chunk,
        worker_id: int | None,
        first: int,
    ) -> Sequence[QueueMessage | None]:
        kind, contents = chunk
        if kind is not EACH and not self._has_policy_now():
            rings = self._rings(connection, due=not envelope.delay)
            sealed = envelope._replace(message_type=kind, rings=rings)
            with suppress(QueueNotFoundError):
                return operations.enqueue_many(connection, self.schema, sealed, contents, worker_id)
            self._has_policy = True
            self._look_at_policy(connection)
        return self._each(connection, envelope, chunk, worker_id, first)

    def _has_policy_now(self) -> bool:
        return self._has_policy or self.registration.policy is not QueuePolicy.STANDARD

    def _each(
        self,
        connection: Connection,
        envelope: Envelope,
        chunk: Chunk,
        worker_id: int | None,
        first: int | None = None,
    ) -> Sequence[QueueMessage | None]:
        kind, contents = chunk
        items = contents if kind is EACH else [_item_of(text, kind, envelope) for text in contents]
        due = any(not each.options.get("delay") for each in items)
        rings = self._rings(connection, due=due)
        bundle = Bundle(self.queue, items, envelope.skips, rings, self._channel, first)
        try:
            added = enqueue_each(connection, self.schema, bundle, worker_id)
        except QueueNotFoundError:
            self._has_policy = False
            raise
        self._has_policy |= kind is not EACH
        return added

    def _extend(self, connection: Connection, message_id: int, by: Any) -> QueueMessage:
        worker_id = self._worker_id(connection)
        return operations.extend_produced(connection, self.schema, message_id, worker_id, by)

    def _worker_id(self, connection: Connection) -> int | None:
        # In the caller's transaction nothing is registered: the id is known, or there is none.
        return self.registration.worker_id if self.joined else self.register(connection)[1]


def _keys_of(chunk: Chunk) -> int:
    kind, (content,) = chunk
    return len(keys_of(content)) if kind is EACH else 0


def _items_of(kind: Any, contents: list[Any]) -> list[Item | None]:
    return list(contents) if kind is EACH else [None] * len(contents)


def _item_of(text: str, kind: str | None, envelope: Envelope) -> Item:
    given = Sending(envelope.priority, envelope.delay, envelope.max_attempts)
    return item(text, kind, given.over({}))
