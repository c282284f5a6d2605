"""What AsyncProducer and AsyncConsumer share: the twin of `pgqrs.worker.BoundWorker`."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pgqrs.aio.binding import AsyncBinding, AsyncEngineBinding, AsyncJoined, bound, joined
from pgqrs.aio.lifecycle import AsyncLivingWorker
from pgqrs.call import Call, call
from pgqrs.config import Config
from pgqrs.errors import InvalidStateError
from pgqrs.lifecycle import Lifecycle
from pgqrs.registration import registration_for
from pgqrs.types import QueueInfo
from pgqrs.worker import WorkerSteps, WorkerUnseenError, address_of

__all__ = ["AsyncBoundWorker", "AsyncWorkerHandle"]

T = TypeVar("T")
S = TypeVar("S", bound=WorkerSteps)


class AsyncBoundWorker(AsyncLivingWorker, Generic[S]):
    """A worker's binding: runs its steps, and is a context manager that lets go at the end."""

    _steps_type: type[S]

    def __init__(
        self,
        bind: Any,
        queue: str | QueueInfo,
        hostname: str | None = None,
        port: int | None = None,
        config: Config | None = None,
    ) -> None:
        address = address_of(queue, self._steps_type.role, hostname, port)
        self.binding: AsyncBinding = bound(bind, config)
        place = self.binding.place if isinstance(self.binding, AsyncEngineBinding) else None
        registration = registration_for(place, address, self.binding.config)
        joins = self.binding.is_joined
        self._steps = self._steps_type(registration, joined=joins)
        self._life = self._steps.life()
        self._own = self.binding if isinstance(self.binding, AsyncEngineBinding) else None
        self._closed = False
        self._leave = weakref.finalize(self, registration.leave)
        self._leave.atexit = False
        registration.join()

    def within(self, transaction: AsyncJoined) -> Self:
        """Give the same worker, acting in a transaction of yours.

        What it does is committed or rolled back with your own changes. It never commits, rolls
        back, closes or begins anything of yours; a session with autoflush is flushed first.
        """
        self._check_open()
        twin = object.__new__(type(self))
        twin.binding = joined(transaction, self.binding.config)
        twin._steps = self._steps.joining()
        twin._steps.apart = self._own is not None
        twin._life = self._life
        twin._own = self._own
        twin._closed = False
        twin._leave = weakref.finalize(twin, lambda: None)
        return twin

    @property
    def worker_id(self) -> int | None:
        """The id of the worker row; None until the first operation registers it."""
        return self._steps.registration.worker_id

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._steps.queue

    async def close(self) -> None:
        """Mark the worker stopped if nobody else shares it, and free what it owns. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._own is not self.binding:
            return
        self._leave.detach()
        last = self._steps.registration.leave()
        try:
            if last and self._steps.is_registered:
                await self.binding.run(call(self._steps.stop))
        finally:
            await self.binding.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _live(self, call_: Call[T]) -> T:
        self._check_open()
        return await (self._own or self.binding).run(call_)

    async def _run(self, call_: Call[T]) -> T:
        self._check_open()
        if not self.binding.is_joined and not call_.together:
            return await self.binding.run(call_)
        await self._register_apart()
        try:
            return await self.binding.run(call_)
        except WorkerUnseenError:  # deleted with its queue, which may be there again
            await self._register_apart()
            return await self.binding.run(call_)

    async def _register_apart(self) -> None:
        # Not in the transaction to come: a rollback would take the row back.
        if self._own is not None and not self._steps.is_registered:
            await self._own.run_apart(call(self._steps.registration.ensure))

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidStateError(f"this {type(self).__name__}", "closed", "used")


class AsyncWorkerHandle(AsyncLivingWorker):
    """Any worker by its id, to look at it and to suspend, resume or stop it from elsewhere.

    `bind` is what any object of this package takes. The constructor does no I/O and does not
    register.
    """

    def __init__(self, bind: Any, worker_id: int, config: Config | None = None) -> None:
        self.binding: AsyncBinding = bound(bind, config)
        self._worker_id = worker_id
        self._life = Lifecycle(self.binding.schema, lambda _: worker_id)

    @property
    def worker_id(self) -> int:
        """The id of the worker row."""
        return self._worker_id

    async def close(self) -> None:
        """Free what this object owns; the worker goes on. Idempotent."""
        await self.binding.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _live(self, call_: Call[T]) -> T:
        return await self.binding.run(call_)
