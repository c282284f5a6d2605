"""One object for all queues, whose methods take the queue's name first.

A face over Admin, Producer and Consumer, of which it keeps one for each queue. No logic of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar, Unpack, overload

from pydantic import BaseModel

from pgqrs.admin import Admin
from pgqrs.binding import Binding, bound
from pgqrs.closing import Closing
from pgqrs.config import Config
from pgqrs.consumer import Consumer
from pgqrs.consumer_steps import as_typed
from pgqrs.errors import InvalidStateError
from pgqrs.operations.queues import QueueOptions
from pgqrs.producer import Producer
from pgqrs.types import ArchivedMessage, Duration, QueueInfo, QueueMessage

__all__ = [
    "ClientAdmin",
    "ClientConsumer",
    "ClientProducer",
    "CreateQueueOptions",
    "PerQueue",
    "PgqrsClient",
    "ReadOptions",
]

B = TypeVar("B", bound=BaseModel)
W = TypeVar("W")


class CreateQueueOptions:
    """A queue to be made: its name and what `Admin.create_queue` takes with it."""

    def __init__(
        self,
        name: str,
        *,
        exist_ok: bool = False,
        views: bool = False,
        **options: Unpack[QueueOptions],
    ) -> None:
        self.name = name
        self.exist_ok = exist_ok
        self.views = views
        self.options = options

    @classmethod
    def of(
        cls,
        queue: str | CreateQueueOptions,
        options: QueueOptions,
        *,
        exist_ok: bool,
        views: bool,
    ) -> CreateQueueOptions:
        """Give what is asked for in either way. Raises TypeError where it is asked in both."""
        if isinstance(queue, str):
            return cls(queue, exist_ok=exist_ok, views=views, **options)
        if options or exist_ok or views:
            raise TypeError("give all options in the CreateQueueOptions, or all beside a name")
        return queue

    def __repr__(self) -> str:
        return f"CreateQueueOptions({self.name!r}, **{self.options!r})"


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read: the length of the leases, and how many messages a batch has at most.

    None is the queue's visibility timeout, and `max_batch_size`.
    """

    lock_time: Duration | None = None
    count: int | None = None


class PerQueue(Generic[W]):
    """The workers of one role: one for each queue, made when first asked for."""

    def __init__(self, make: Callable[[str], W]) -> None:
        self._make = make
        self._workers: dict[str, W] | None = {}
        self._lock = threading.Lock()

    def of(self, queue: str) -> W:
        """Give the worker of a queue. Raises InvalidStateError once they are closed."""
        found = None if self._workers is None else self._workers.get(queue)
        return self._made(queue) if found is None else found

    def take_all(self) -> list[W]:
        """Give all of them, for the last time."""
        with self._lock:
            workers, self._workers = self._workers or {}, None
        return list(workers.values())

    def _made(self, queue: str) -> W:
        with self._lock:
            if self._workers is None:
                raise InvalidStateError("this client", "closed", "used")
            if queue not in self._workers:
                self._workers[queue] = self._make(queue)
            return self._workers[queue]


def with_an_id(options: dict[str, Any]) -> dict[str, Any]:
    """Give options of an enqueue that has an id for each message. Raises TypeError for others."""
    refused = sorted({"on_conflict", "atomic"}.intersection(options))
    if refused:
        raise TypeError(
            f"{refused[0]}= is not for a client, which gives the id of each message: "
            "use a Producer, which can skip a message or send parts of a batch"
        )
    return options


class ClientAdmin(Admin):
    """An Admin that also takes what is to be created as `CreateQueueOptions`."""

    def create_queue(
        self,
        name: str | CreateQueueOptions,
        *,
        exist_ok: bool = False,
        views: bool = False,
        **options: Unpack[QueueOptions],
    ) -> QueueInfo:
        """Create a queue from options or, as `Admin.create_queue` does, from its name and options.

        Raises TypeError for options beside a CreateQueueOptions.
        """
        asked = CreateQueueOptions.of(name, options, exist_ok=exist_ok, views=views)
        return super().create_queue(
            asked.name, exist_ok=asked.exist_ok, views=asked.views, **asked.options
        )


class ClientProducer(Closing):
    """Adds messages to any queue, and gives their ids.

    The options are those of `Producer`, but for those under which there may be no id: `on_conflict`
    and `atomic` are a TypeError.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self._producers = PerQueue(lambda queue: Producer(bind, queue, config=config))

    def enqueue(self, queue: str, message: Any, **options: Any) -> int:
        """Add one message, and give its id; otherwise as `Producer.enqueue`."""
        producer = self._producers.of(queue)
        return int(producer.enqueue(message, on_conflict="raise", **with_an_id(options)).id)

    def batch_enqueue(self, queue: str, messages: Iterable[Any], **options: Any) -> list[int]:
        """Add many, all or none, and give their ids in order; as `Producer.batch_enqueue`."""
        producer = self._producers.of(queue)
        added = producer.batch_enqueue(messages, **with_an_id(options))
        return [message.id for message in added]

    def enqueue_delayed(self, queue: str, message: Any, delay: Duration, **options: Any) -> int:
        """Add one that is due after `delay`, and give its id; as `Producer.enqueue_delayed`."""
        producer = self._producers.of(queue)
        return int(
            producer.enqueue_delayed(message, delay, on_conflict="raise", **with_an_id(options)).id
        )

    def close(self) -> None:
        """Close the producer of each queue. Idempotent."""
        with ExitStack() as all_of_them:
            for producer in self._producers.take_all():
                all_of_them.callback(producer.close)


class ClientConsumer(Closing):
    """Reads messages of any queue and acknowledges them, by the ids of what it read itself.

    An id that it did not read, or whose message was read again by another since, is LeaseLostError,
    in a batch False.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self._consumers = PerQueue(lambda queue: Consumer(bind, queue, config=config))

    @overload
    def read(self, queue: str, options: ReadOptions | None = None) -> QueueMessage | None: ...
    @overload
    def read(
        self, queue: str, options: ReadOptions | None, type: type[B]
    ) -> QueueMessage[B] | None: ...
    @overload
    def read(
        self, queue: str, options: ReadOptions | None = None, *, type: type[B]
    ) -> QueueMessage[B] | None: ...
    def read(
        self,
        queue: str,
        options: ReadOptions | None = None,
        type: type[BaseModel] | None = None,
    ) -> QueueMessage[Any] | None:
        """Lease one message, or give None; with `type` its payload is such a model.

        Otherwise as `Consumer.dequeue`.
        """
        message = self._consumers.of(queue).dequeue((options or ReadOptions()).lock_time)
        return message.typed(type) if message and type else message

    @overload
    def read_batch(self, queue: str, options: ReadOptions | None = None) -> list[QueueMessage]: ...
    @overload
    def read_batch(
        self, queue: str, options: ReadOptions | None, type: type[B]
    ) -> list[QueueMessage[B]]: ...
    @overload
    def read_batch(
        self, queue: str, options: ReadOptions | None = None, *, type: type[B]
    ) -> list[QueueMessage[B]]: ...
    def read_batch(
        self,
        queue: str,
        options: ReadOptions | None = None,
        type: type[BaseModel] | None = None,
    ) -> list[QueueMessage[Any]]:
        """Lease messages; with `type` their payloads are such models.

        Otherwise as `Consumer.dequeue_batch`.
        """
        how, consumer = options or ReadOptions(), self._consumers.of(queue)
        size = consumer.binding.config.max_batch_size if how.count is None else how.count
        return as_typed(consumer.dequeue_batch(size, how.lock_time), type)

    def dequeue(self, queue: str, message_id: int) -> None:
        """Take a message that was read off its queue: deletes it, as `Consumer.delete`."""
        self._consumers.of(queue).delete(message_id)

    def dequeue_batch(self, queue: str, message_ids: Iterable[int]) -> list[bool]:
        """Delete many that were read; says for each whether its lease was held."""
        return self._consumers.of(queue).delete_batch(message_ids)

    def archive(self, queue: str, message_id: int) -> ArchivedMessage:
        """Move a message that was read to the archive, as `Consumer.archive`."""
        return self._consumers.of(queue).archive(message_id)

    def archive_batch(self, queue: str, message_ids: Iterable[int]) -> list[bool]:
        """Archive many that were read; says for each whether its lease was held."""
        return self._consumers.of(queue).archive_batch(message_ids)

    def extend_lock(self, queue: str, message_id: int, by: Duration) -> QueueMessage:
        """Push the end of a lease out to `by` from now, as `Consumer.extend_visibility`."""
        return self._consumers.of(queue).extend_visibility(message_id, by)

    def close(self, *, release: bool = True) -> None:
        """Close the consumer of each queue, which gives back what is still held. Idempotent."""
        with ExitStack() as all_of_them:
            for consumer in self._consumers.take_all():
                all_of_them.callback(consumer.close, release=release)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(release=error is None)


class PgqrsClient(Closing):
    """Admin, producer and consumer for all queues of one database.

    `bind` is a Config or whatever else gives connections. The constructor does no I/O. Leaving a
    `with` block closes all of it: what was read and not acknowledged is given back, or on an
    exception left to run out, so that its attempt counts.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self.binding: Binding = bound(bind, config)
        self._admin = ClientAdmin(self, config)
        self._producer = ClientProducer(self, config)
        self._consumer = ClientConsumer(self, config)

    def admin(self) -> ClientAdmin:
        """Give the admin; always the same object, as the others."""
        return self._admin

    def producer(self) -> ClientProducer:
        """Give the producer of all queues."""
        return self._producer

    def consumer(self) -> ClientConsumer:
        """Give the consumer of all queues, which knows what it read."""
        return self._consumer

    def close(self, *, release: bool = True) -> None:
        """Close everything that was made here. Idempotent."""
        with ExitStack() as all_of_it:
            all_of_it.callback(self.binding.close)
            all_of_it.callback(self._admin.close)
            all_of_it.callback(self._producer.close)
            all_of_it.callback(self._consumer.close, release=release)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(release=error is None)
