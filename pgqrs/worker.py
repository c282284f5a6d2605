"""What Producer and Consumer share: the queue they work on, and their worker row.

`WorkerSteps` is what to do given a connection, for the sync and asyncio classes alike;
`BoundWorker` is the sync shell: which connection, and when to let go.
"""

from __future__ import annotations

import atexit
import contextlib
import weakref
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from sqlalchemy import Connection

from pgqrs.binding import Binding, EngineBinding, Joined, bound, joined
from pgqrs.call import Call, call
from pgqrs.config import Config
from pgqrs.errors import InvalidStateError, PgqrsError
from pgqrs.operations import workers
from pgqrs.operations.workers import Address
from pgqrs.registration import Registration, registration_for
from pgqrs.types import QueueInfo, WorkerRole

__all__ = ["BoundWorker", "WorkerSteps", "address_of"]

T = TypeVar("T")
S = TypeVar("S", bound="WorkerSteps")


def address_of(
    queue: str | QueueInfo, role: WorkerRole, hostname: str | None, port: int | None
) -> Address:
    """Give what a worker of `queue` (a name or a QueueInfo) is registered as.

    Raises ValueError for a hostname without a port or the reverse.
    """
    if (hostname is None) != (port is None):
        raise ValueError("give a hostname and a port, or neither")
    name = queue.queue_name if isinstance(queue, QueueInfo) else queue
    return Address(name, role, hostname, port)


class WorkerSteps:
    """What any worker does on a connection it is given.

    `joined` says that the connection is in a transaction of the caller's.
    """

    role: ClassVar[WorkerRole]

    def __init__(self, registration: Registration, *, joined: bool = False) -> None:
        self.registration = registration
        self.config: Config = registration.config
        self.schema = registration.config.schema_
        self.queue = registration.address.queue
        self.joined = joined

    @property
    def is_registered(self) -> bool:
        """Whether the worker has its row."""
        return self.registration.worker_id is not None

    def joining(self) -> Self:
        """Give the same steps for a connection that is in a transaction of the caller's."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, joined=True)
        return twin

    def register(self, connection: Connection) -> tuple[int, int]:
        """Give (queue id, worker id), registering if need be."""
        return self.registration.ensure(connection)

    def heartbeat(self, connection: Connection) -> None:
        """Register if need be, and beat."""
        _, worker_id = self.register(connection)
        workers.beat(connection, self.schema, [worker_id])
        self.registration.beaten()

    def stop(self, connection: Connection) -> None:
        """Mark the worker stopped, if it ever registered."""
        worker_id = self.registration.worker_id
        self.registration.forget()
        if worker_id is not None:
            workers.stop(connection, self.schema, worker_id)

    def beat_if_due(self, connection: Connection) -> None:
        """Beat along with an operation, but never in the caller's transaction."""
        if not self.joined:
            self.registration.beat_if_due(connection)


class BoundWorker(Generic[S]):
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
        self.binding: Binding = bound(bind, config)
        engine = self.binding.engine if isinstance(self.binding, EngineBinding) else None
        registration = registration_for(engine, address, self.binding.config)
        joins = self.binding.is_joined
        self._steps = self._steps_type(registration, joined=joins)
        self._own = None if joins else self.binding
        self._closed = False
        self._leave = weakref.finalize(self, registration.leave)
        self._leave.atexit = False
        registration.join()
        if self._own is not None:
            _at_exit.add(self)

    def within(self, transaction: Joined) -> Self:
        """Give the same worker, acting in a transaction of yours.

        What it does is committed or rolled back with your own changes. It never commits, rolls
        back, closes or begins anything of yours; a Session with autoflush is flushed first.
        """
        twin = object.__new__(type(self))
        twin.binding = joined(transaction, self.binding.config)
        twin._steps = self._steps.joining()
        twin._own = self._own
        twin._closed = False
        twin._leave = weakref.finalize(twin, _nothing)
        return twin

    @property
    def worker_id(self) -> int | None:
        """The id of the worker row; None until the first operation registers it."""
        return self._steps.registration.worker_id

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._steps.queue

    def heartbeat(self) -> None:
        """Say that this worker is alive, registering it if need be.

        Raises QueueNotFoundError, WorkerExistsError, DatabaseError.
        """
        (self._own or self.binding).run(call(self._steps.heartbeat))

    def close(self) -> None:
        """Mark the worker stopped if nobody else shares it, and free what it owns. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._own is not self.binding:
            return
        _at_exit.discard(self)
        self._leave.detach()
        last = self._steps.registration.leave()
        try:
            if last and self._steps.is_registered:
                self.binding.run(call(self._steps.stop))
        finally:
            self.binding.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, call_: Call[T]) -> T:
        if self._closed:
            raise InvalidStateError(f"this {type(self).__name__}", "closed", "used")
        if self.binding.is_joined and self._own is not None and not self._steps.is_registered:
            self._own.run(call(self._steps.register))
        return self.binding.run(call_)


def _nothing() -> None:
    """Stand in for a finalizer where there is nothing to give up."""


_at_exit: weakref.WeakSet[BoundWorker[Any]] = weakref.WeakSet()


@atexit.register
def _stop_at_exit() -> None:
    # So that short scripts which never close leave no worker behind that looks alive.
    for worker in list(_at_exit):
        with contextlib.suppress(PgqrsError):
            if worker.worker_id is not None:
                worker.binding.run(call(worker._steps.stop))  # noqa: SLF001 - our own base class
