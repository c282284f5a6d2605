"""Add messages to a queue: on which connection. What is done is `ProducerSteps`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar, Unpack, overload

from pgqrs.bell import Ringer
from pgqrs.call import Call
from pgqrs.contents import Sending
from pgqrs.errors import PartlyEnqueuedError
from pgqrs.new_message import MoreOptions, OnConflict
from pgqrs.producer_steps import ProducerSteps
from pgqrs.types import Duration, QueueMessage, RateLimitStatus
from pgqrs.worker import BoundWorker

__all__ = ["Producer"]

T = TypeVar("T")


class Producer(BoundWorker[ProducerSteps]):
    """Adds messages to one queue.

    `bind` is a Config, DSN, URL, Engine, sessionmaker or another pgqrs object: then each call is a
    transaction of its own. With a Session or Connection every call is `within` it. `queue` is a
    name or QueueInfo. An explicit hostname and port register a worker of their own; otherwise one
    row is shared in the process. The constructor does no I/O.
    """

    _steps_type = ProducerSteps
    _ringer: Ringer | None = None

    @overload
    def enqueue(
        self,
        payload: Any,
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        on_conflict: Literal["raise"] = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage: ...
    @overload
    def enqueue(
        self,
        payload: Any,
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict,
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None: ...
    def enqueue(
        self,
        payload: Any,
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None:
        """Add one message: one statement, one round trip.

        `payload` is JSON text (str, bytes), a JSON value, `Json(value)`, a pydantic model, or a
        `NewMessage` of one of these, whose options come before those given here. Higher priorities
        (-32768 to 32767) are leased first. `delay` is seconds or a timedelta. `max_attempts`
        overrides the queue's. The other options are those of `MessageOptions`.

        Where another message keeps it out, by its id, its window or the queue's policy, that is
        DuplicateMessageError or ThrottledError; with `on_conflict="skip"` it is None. Raises
        PayloadError, RateLimitedError, ValueError, QueueNotFoundError, UnavailableError, and
        OutcomeUnknownError where the reply to the commit was lost: with a `message_id` it may be
        sent again then.
        """
        sending = Sending(priority, delay, max_attempts, on_conflict, options)
        return self._send(self._steps.enqueuing(payload, sending))

    @overload
    def enqueue_delayed(
        self,
        payload: Any,
        delay: Duration,
        *,
        priority: int = 0,
        max_attempts: int | None = None,
        on_conflict: Literal["raise"] = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage: ...
    @overload
    def enqueue_delayed(
        self,
        payload: Any,
        delay: Duration,
        *,
        priority: int = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict,
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None: ...
    def enqueue_delayed(
        self,
        payload: Any,
        delay: Duration,
        *,
        priority: int = 0,
        max_attempts: int | None = None,
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> QueueMessage | None:
        """Add one message that is due after `delay`; otherwise as `enqueue`."""
        sending = Sending(priority, delay, max_attempts, on_conflict, options)
        return self._send(self._steps.enqueuing(payload, sending))

    @overload
    def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: Literal[True] = True,
        on_conflict: Literal["raise"] = "raise",
        **options: Unpack[MoreOptions],
    ) -> list[QueueMessage]: ...
    @overload
    def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: Literal[True] = True,
        on_conflict: OnConflict,
        **options: Unpack[MoreOptions],
    ) -> list[QueueMessage | None]: ...
    @overload
    def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: Literal[False],
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> int: ...
    def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
        atomic: bool = True,
        on_conflict: OnConflict = "raise",
        **options: Unpack[MoreOptions],
    ) -> Any:
        """Add many messages, with ids in the order given; otherwise as `enqueue`.

        All or none: payloads and rate limit are checked first, and what is above
        `enqueue_chunk_rows` rows or `enqueue_chunk_bytes` bytes is several statements in one
        transaction. Skipped ones are None. With `atomic=False` each statement is a transaction of
        its own, `payloads` is read no further than needed and may be of any length, and the number
        of messages enqueued is given; PartlyEnqueuedError says how many are in.
        """
        sending = Sending(priority, delay, max_attempts, on_conflict, options)
        if atomic:
            return self._send(self._steps.enqueuing_many(payloads, sending))
        parts, count = self._steps.enqueuing_in_parts(payloads, sending), 0
        try:
            for part in parts:
                messages = self._send(part)
                count += len(messages) - messages.count(None)
        except Exception as error:  # also one of the iterable's own
            raise PartlyEnqueuedError(count, error) from error
        return count

    def extend_visibility(self, message: QueueMessage | int, by: Duration) -> QueueMessage:
        """Postpone a waiting message that this producer added, or extend its present lease.

        It is due no sooner than `by` from now; a lease keeps its holder. Gives the message as it
        is now. Raises LeaseLostError where it is finished or another worker produced it.
        """
        return self._run(self._steps.extending(message, by))

    def rate_limit_status(self) -> RateLimitStatus | None:
        """Give how much this producer may send now; None without `max_enqueue_per_second`."""
        return self._steps.rate_limit_status()

    def close(self) -> None:
        """Send the notification that is owed, and stop the worker if nobody else shares it.

        Where the server cannot be reached that is a warning in the log, and no error. Idempotent.
        """
        if self._ringer is not None and not self._closed:
            self._ringer.close()
        super().close()

    def _send(self, call_: Call[T]) -> T:
        result = self._run(call_)
        if self._steps.bell.owes():
            if self._ringer is None:
                binding, ringing = self.binding, self._steps.ringing()
                self._ringer = Ringer(self._steps.bell, lambda: binding.run(ringing))
            self._ringer.soon()
        return result
