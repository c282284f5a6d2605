"""Add messages to a queue.

`ProducerSteps` is what a producer does given a connection, for the class here and its asyncio
twin; `Producer` only says on which connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from pgqrs.errors import PayloadError
from pgqrs.operations import enqueue as operations
from pgqrs.operations.enqueue import Envelope
from pgqrs.payload import encode
from pgqrs.types import Duration, QueueMessage, WorkerRole, span
from pgqrs.worker import BoundWorker, WorkerSteps

__all__ = ["Producer", "ProducerSteps"]


class ProducerSteps(WorkerSteps):
    """What a producer does on a connection it is given."""

    role = WorkerRole.PRODUCER

    def envelope(self, priority: int, delay: Duration, max_attempts: int | None) -> Envelope:
        """Check the options, before any connection is taken. Raises ValueError."""
        if not -32768 <= priority <= 32767:
            raise ValueError(f"a priority is between -32768 and 32767, not {priority}")
        if max_attempts is not None and not 1 <= max_attempts <= 1_000_000:
            raise ValueError(f"max_attempts is between 1 and 1,000,000, not {max_attempts}")
        return Envelope(self.queue, priority, span(delay), max_attempts)

    def text(self, payload: Any) -> str:
        """Give a payload's JSON text. Raises PayloadError."""
        return encode(payload, self.config.max_payload_bytes)

    def texts(self, payloads: Iterable[Any]) -> list[str]:
        """Give the JSON texts of a batch. Raises PayloadError naming the index."""
        texts: list[str] = []
        for index, payload in enumerate(payloads):
            try:
                texts.append(self.text(payload))
            except PayloadError as error:
                raise PayloadError(f"item {index} of the batch: {error}") from error
        return texts

    def enqueue(self, connection: Connection, envelope: Envelope, text: str) -> QueueMessage:
        """Insert one message."""
        worker_id = self._worker_id(connection)
        message = operations.enqueue(connection, self.schema, envelope, text, worker_id)
        self.beat_if_due(connection)
        return message

    def enqueue_many(
        self, connection: Connection, envelope: Envelope, texts: list[str]
    ) -> list[QueueMessage]:
        """Insert a batch, in as many statements as its size needs."""
        worker_id = self._worker_id(connection)
        messages: list[QueueMessage] = []
        for chunk in self._chunks(texts):
            messages += operations.enqueue_many(connection, self.schema, envelope, chunk, worker_id)
        self.beat_if_due(connection)
        return messages

    def fits_one_statement(self, texts: list[str]) -> bool:
        """Say whether a batch is one statement, which needs no transaction around it."""
        return len(list(self._chunks(texts))) <= 1

    def extend_visibility(
        self, connection: Connection, message: QueueMessage | int, by: Duration
    ) -> QueueMessage:
        """Postpone what this producer enqueued, or extend its present lease."""
        message_id = message if isinstance(message, int) else message.id
        worker_id = self._worker_id(connection)
        return operations.extend_produced(connection, self.schema, message_id, worker_id, span(by))

    def _worker_id(self, connection: Connection) -> int | None:
        if self.joined:
            return self.registration.worker_id
        return self.register(connection)[1]

    def _chunks(self, texts: list[str]) -> Iterable[Any]:
        return operations.chunks(
            texts, self.config.enqueue_chunk_rows, self.config.enqueue_chunk_bytes
        )


class Producer(BoundWorker[ProducerSteps]):
    """Adds messages to one queue.

    `bind` is a Config, DSN, URL, Engine, sessionmaker or another pgqrs object: then each call is a
    transaction of its own. With a Session or Connection every call is `within` it. `queue` is a
    name or QueueInfo. An explicit hostname and port register a worker of their own; otherwise one
    row is shared in the process. The constructor does no I/O.
    """

    _steps_type = ProducerSteps

    def enqueue(
        self,
        payload: Any,
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
    ) -> QueueMessage:
        """Add one message: one statement, one round trip.

        `payload` is JSON text (str, bytes), a JSON value, `Json(value)` or a pydantic model.
        Higher priorities (-32768 to 32767) are leased first. `delay` is seconds or a timedelta.
        `max_attempts` overrides the queue's. Raises PayloadError, ValueError, QueueNotFoundError,
        UnavailableError, and OutcomeUnknownError where the reply to the commit was lost.
        """
        envelope = self._steps.envelope(priority, delay, max_attempts)
        text = self._steps.text(payload)
        return self._ready().run_change(self._steps.enqueue, envelope, text)

    def enqueue_delayed(
        self,
        payload: Any,
        delay: Duration,
        *,
        priority: int = 0,
        max_attempts: int | None = None,
    ) -> QueueMessage:
        """Add one message that is due after `delay`; otherwise as `enqueue`."""
        return self.enqueue(payload, priority=priority, delay=delay, max_attempts=max_attempts)

    def batch_enqueue(
        self,
        payloads: Iterable[Any],
        *,
        priority: int = 0,
        delay: Duration = 0,
        max_attempts: int | None = None,
    ) -> list[QueueMessage]:
        """Add many messages, all or none, with ids in the order given; otherwise as `enqueue`.

        All payloads are checked first. A batch above `enqueue_chunk_rows` rows or
        `enqueue_chunk_bytes` bytes is several statements in one transaction.
        """
        envelope = self._steps.envelope(priority, delay, max_attempts)
        texts = self._steps.texts(payloads)
        binding = self._ready()
        alone = self._steps.fits_one_statement(texts)
        run = binding.run_change if alone else binding.run_together
        return run(self._steps.enqueue_many, envelope, texts)

    def extend_visibility(self, message: QueueMessage | int, by: Duration) -> QueueMessage:
        """Postpone a waiting message that this producer added, or extend its present lease.

        It is due no sooner than `by` from now; a lease keeps its holder. Gives the message as it
        is now. Raises LeaseLostError where it is finished or another worker produced it.
        """
        return self._run(self._steps.extend_visibility, message, by)
