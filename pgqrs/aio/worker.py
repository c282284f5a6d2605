"""What AsyncProducer and AsyncConsumer share: the twin of `pgqrs.worker.BoundWorker`."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from pgqrs.aio.binding import AsyncBinding, AsyncEngineBinding, AsyncJoined, bound, joined
from pgqrs.aio.lifecycle import AsyncLivingWorker
from pgqrs.call import Call, TogetherError, call
from pgqrs.config import Config
from pgqrs.lifecycle import Lifecycle
from pgqrs.types import QueueInfo
from pgqrs.worker import Registered, WorkerSteps, WorkerUnseenError, address_of, signing_off

__all__ = ["AsyncBoundWorker", "AsyncWorkerHandle"]

T = TypeVar("T")
S = TypeVar("S", bound=WorkerSteps)


class AsyncBoundWorker(Registered[S], AsyncLivingWorker):
    """A worker's binding: runs its steps, and is a context manager that lets go at the end."""

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
        self._own: AsyncEngineBinding | None = (
            self.binding if isinstance(self.binding, AsyncEngineBinding) else None
        )
        place = None if self._own is None else self._own.place
        self._enrol(address, place, self.binding.config, joined=self.binding.is_joined)

    def within(self, transaction: AsyncJoined) -> Self:
        """Give the same worker, acting in a transaction of yours.

        What it does is committed or rolled back with your own changes. It never commits, rolls
        back, closes or begins anything of yours; a session with autoflush is flushed first.
        """
        self._check_open()
        return self._joining(joined(transaction, self.binding.config))

    async def close(self) -> None:
        """Mark the worker stopped if nobody else shares it, and free what it owns. Idempotent.

        Where the server is away, its row is left to go stale, and a warning is logged.
        """
        if self._closed:
            return
        self._closed = True
        if self._own is not self.binding:
            return
        self._leave.detach()
        last = self._steps.registration.leave()
        try:
            if last and self._steps.is_registered:
                with signing_off():
                    await self.binding.run(call(self._steps.stop))
        finally:
            await self.binding.close()

    async def _live(self, call_: Call[T]) -> T:
        self._check_open()
        return await (self._own or self.binding).run(call_)

    async def _run(self, call_: Call[T]) -> T:
        self._check_open()
        if not self.binding.is_joined and not call_.together:
            try:
                return await self.binding.run(call_)
            except TogetherError:
                call_ = call_._replace(together=True)
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

    async def _live(self, call_: Call[T]) -> T:
        return await self.binding.run(call_)
