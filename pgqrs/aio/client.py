"""One object for all queues under asyncio: the twin of `pgqrs.client`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

from pydantic import BaseModel

from pgqrs.aio.admin import AsyncAdmin
from pgqrs.aio.binding import AsyncBinding, bound
from pgqrs.aio.consumer import AsyncConsumer
from pgqrs.aio.producer import AsyncProducer
from pgqrs.client import CreateQueueOptions, PerQueue, ReadOptions, with_an_id
from pgqrs.closing import AsyncClosing
from pgqrs.config import Config
from pgqrs.consumer_steps import as_typed
from pgqrs.operations.queues import QueueOptions
from pgqrs.types import ArchivedMessage, Duration, QueueInfo, QueueMessage

__all__ = [
    "AsyncClientAdmin",
    "AsyncClientConsumer",
    "AsyncClientProducer",
    "AsyncPgqrsClient",
]

B = TypeVar("B", bound=BaseModel)


class AsyncClientAdmin(AsyncAdmin):
    """An Admin that also takes what is to be created as `CreateQueueOptions`."""

    async def create_queue(
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
        return await super().create_queue(
            asked.name, exist_ok=asked.exist_ok, views=asked.views, **asked.options
        )


class AsyncClientProducer(AsyncClosing):
    """Adds messages to any queue, and gives their ids.

    The options are those of `Producer`, but for those under which there may be no id: `on_conflict`
    and `atomic` are a TypeError.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self._producers = PerQueue(lambda queue: AsyncProducer(bind, queue, config=config))

    async def enqueue(self, queue: str, message: Any, **options: Any) -> int:
        """Add one message, and give its id; otherwise as `Producer.enqueue`."""
        producer = self._producers.of(queue)
        added = await producer.enqueue(message, on_conflict="raise", **with_an_id(options))
        return int(added.id)

    async def batch_enqueue(self, queue: str, messages: Iterable[Any], **options: Any) -> list[int]:
        """Add many, all or none, and give their ids in order; as `Producer.batch_enqueue`."""
        producer = self._producers.of(queue)
        added = await producer.batch_enqueue(messages, **with_an_id(options))
        return [message.id for message in added]

    async def enqueue_delayed(
        self, queue: str, message: Any, delay: Duration, **options: Any
    ) -> int:
        """Add one that is due after `delay`, and give its id; as `Producer.enqueue_delayed`."""
        producer = self._producers.of(queue)
        added = await producer.enqueue_delayed(
            message, delay, on_conflict="raise", **with_an_id(options)
        )
        return int(added.id)

    async def close(self) -> None:
        """Close the producer of each queue. Idempotent."""
        async with AsyncExitStack() as all_of_them:
            for producer in self._producers.take_all():
                all_of_them.push_async_callback(producer.close)


class AsyncClientConsumer(AsyncClosing):
    """Reads messages of any queue and acknowledges them, by the ids of what it read itself.

    An id that it did not read, or whose message was read again by another since, is LeaseLostError,
    in a batch False.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self._consumers = PerQueue(lambda queue: AsyncConsumer(bind, queue, config=config))

    @overload
    async def read(self, queue: str, options: ReadOptions | None = None) -> QueueMessage | None: ...
    @overload
    async def read(
        self, queue: str, options: ReadOptions | None, type: type[B]
    ) -> QueueMessage[B] | None: ...
    @overload
    async def read(
        self, queue: str, options: ReadOptions | None = None, *, type: type[B]
    ) -> QueueMessage[B] | None: ...
    async def read(
        self,
        queue: str,
        options: ReadOptions | None = None,
        type: type[BaseModel] | None = None,
    ) -> QueueMessage[Any] | None:
        """Lease one message, or give None; with `type` its payload is such a model.

        Otherwise as `Consumer.dequeue`.
        """
        message = await self._consumers.of(queue).dequeue((options or ReadOptions()).lock_time)
        return message.typed(type) if message and type else message

    @overload
    async def read_batch(
        self, queue: str, options: ReadOptions | None = None
    ) -> list[QueueMessage]: ...
    @overload
    async def read_batch(
        self, queue: str, options: ReadOptions | None, type: type[B]
    ) -> list[QueueMessage[B]]: ...
    @overload
    async def read_batch(
        self, queue: str, options: ReadOptions | None = None, *, type: type[B]
    ) -> list[QueueMessage[B]]: ...
    async def read_batch(
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
        return as_typed(await consumer.dequeue_batch(size, how.lock_time), type)

    async def dequeue(self, queue: str, message_id: int) -> None:
        """Take a message that was read off its queue: deletes it, as `Consumer.delete`."""
        await self._consumers.of(queue).delete(message_id)

    async def dequeue_batch(self, queue: str, message_ids: Iterable[int]) -> list[bool]:
        """Delete many that were read; says for each whether its lease was held."""
        return await self._consumers.of(queue).delete_batch(message_ids)

    async def archive(self, queue: str, message_id: int) -> ArchivedMessage:
        """Move a message that was read to the archive, as `Consumer.archive`."""
        return await self._consumers.of(queue).archive(message_id)

    async def archive_batch(self, queue: str, message_ids: Iterable[int]) -> list[bool]:
        """Archive many that were read; says for each whether its lease was held."""
        return await self._consumers.of(queue).archive_batch(message_ids)

    async def extend_lock(self, queue: str, message_id: int, by: Duration) -> QueueMessage:
        """Push the end of a lease out to `by` from now, as `Consumer.extend_visibility`."""
        return await self._consumers.of(queue).extend_visibility(message_id, by)

    async def close(self, *, release: bool = True) -> None:
        """Close the consumer of each queue, which gives back what is still held. Idempotent."""
        async with AsyncExitStack() as all_of_them:
            for consumer in self._consumers.take_all():
                all_of_them.push_async_callback(consumer.close, release=release)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(release=error is None)


class AsyncPgqrsClient(AsyncClosing):
    """Admin, producer and consumer for all queues of one database.

    `bind` is a Config or whatever else gives connections. The constructor does no I/O. Leaving a
    `with` block closes all of it: what was read and not acknowledged is given back, or on an
    exception left to run out, so that its attempt counts.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        self.binding: AsyncBinding = bound(bind, config)
        self._admin = AsyncClientAdmin(self, config)
        self._producer = AsyncClientProducer(self, config)
        self._consumer = AsyncClientConsumer(self, config)

    def admin(self) -> AsyncClientAdmin:
        """Give the admin; always the same object, as the others."""
        return self._admin

    def producer(self) -> AsyncClientProducer:
        """Give the producer of all queues."""
        return self._producer

    def consumer(self) -> AsyncClientConsumer:
        """Give the consumer of all queues, which knows what it read."""
        return self._consumer

    async def close(self, *, release: bool = True) -> None:
        """Close everything that was made here. Idempotent."""
        async with AsyncExitStack() as all_of_it:
            all_of_it.push_async_callback(self.binding.close)
            all_of_it.push_async_callback(self._admin.close)
            all_of_it.push_async_callback(self._producer.close)
            all_of_it.push_async_callback(self._consumer.close, release=release)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(release=error is None)
