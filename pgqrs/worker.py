"""What Producer and Consumer share: the queue they work on, and their worker row.

`WorkerSteps` is what to do given a connection, for the sync and asyncio classes alike;
`BoundWorker` is the sync shell: which connection, and when to let go.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import weakref
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from sqlalchemy import Connection, Engine

from pgqrs import engines
from pgqrs.binding import Binding, EngineBinding, Joined, bound, joined
from pgqrs.call import Call, TogetherError, call
from pgqrs.config import Config
from pgqrs.errors import (
    InvalidStateError,
    OutcomeUnknownError,
    PgqrsError,
    QueryTimeoutError,
    SchemaMissingError,
    UnavailableError,
)
from pgqrs.lifecycle import Lifecycle, LivingWorker, Worker
from pgqrs.operations.workers import Address
from pgqrs.registration import Registration, registration_for, standing
from pgqrs.types import QueueInfo, WorkerRole, name_of

__all__ = [
    "BoundWorker",
    "Registered",
    "Worker",
    "WorkerHandle",
    "WorkerSteps",
    "WorkerUnseenError",
    "address_of",
    "signing_off",
]

_log: Final = logging.getLogger(__name__)

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
    return Address(name_of(queue), role, hostname, port)


@contextlib.contextmanager
def signing_off() -> Iterator[None]:
    """Leave to time what the server cannot be told at the end: a worker's row, or its leases.

    What the worker did is done: an error at the end of a `with` block would look as if it were not.
    """
    try:
        yield
    except SchemaMissingError:  # nothing to sign off from
        pass
    except (UnavailableError, OutcomeUnknownError, QueryTimeoutError) as error:
        _log.warning("a worker could not sign off, and its leases are left to run out: %s", error)


class WorkerUnseenError(InvalidStateError):
    """The worker's row is not there for the caller's transaction."""

    def __init__(self) -> None:
        what = "the worker's row, which is newer than the snapshot of your transaction or deleted,"
        super().__init__(what, "not visible there", "used there")


class WorkerSteps:
    """What any worker does on a connection it is given.

    `joined` says that the connection is in a transaction of the caller's; `apart`, that the
    worker's row is never made on it, because there is another.
    """

    role: ClassVar[WorkerRole]

    def __init__(self, registration: Registration, *, joined: bool = False) -> None:
        self.registration = registration
        self.config: Config = registration.config
        self.schema = registration.config.schema_
        self.queue = registration.address.queue
        self.joined = joined
        self.apart = False

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
        if self.apart and not self.is_registered:
            raise WorkerUnseenError
        return self.registration.ensure(connection)

    def life(self) -> Lifecycle:
        """Give the calls of this worker's life."""
        ensure = self.registration.ensure
        return Lifecycle(self.schema, lambda connection: ensure(connection)[1])

    def stop(self, connection: Connection) -> None:
        """Mark the worker stopped, if it ever registered."""
        self.registration.stop(connection)

    def beat_if_due(self, connection: Connection) -> None:
        """Beat along with an operation, but never in the caller's transaction."""
        if not self.joined:
            self.registration.beat_if_due(connection)


class Registered(Generic[S]):
    """What the sync and the asyncio shell of a worker have in common: everything but waiting."""

    _steps_type: type[S]
    binding: Any
    _own: Any
    _steps: S
    _life: Lifecycle
    _closed: bool
    _leave: weakref.finalize[..., Any]

    @property
    def worker_id(self) -> int | None:
        """The id of the worker row; None until the first operation registers it."""
        return self._steps.registration.worker_id

    @property
    def queue(self) -> str:
        """The name of the queue."""
        return self._steps.queue

    def _enrol(self, address: Address, place: Any, config: Config, *, joined: bool) -> None:
        """Share the registration of `place`, which is an engine, or have one of its own."""
        registration = registration_for(place, address, config)
        self._steps = self._steps_type(registration, joined=joined)
        self._life = self._steps.life()
        self._closed = False
        self._leave = weakref.finalize(self, registration.leave)
        self._leave.atexit = False
        registration.join()

    def _joining(self, binding: Any) -> Self:
        """Give a twin for the transaction of the caller's that is bound there."""
        twin = object.__new__(type(self))
        twin.binding, twin._own = binding, self._own
        twin._steps = self._steps.joining()
        twin._steps.apart = self._own is not None
        twin._life = self._life
        twin._closed = False
        twin._leave = weakref.finalize(twin, _nothing)
        return twin

    def _check_open(self) -> None:
        if self._closed:
            raise InvalidStateError(f"this {type(self).__name__}", "closed", "used")


class BoundWorker(Registered[S], LivingWorker):
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
        self.binding: Binding = bound(bind, config)
        self._own: EngineBinding | None = (
            self.binding if isinstance(self.binding, EngineBinding) else None
        )
        place = None if self._own is None else self._own.engine
        self._enrol(address, place, self.binding.config, joined=self.binding.is_joined)

    def within(self, transaction: Joined) -> Self:
        """Give the same worker, acting in a transaction of yours.

        What it does is committed or rolled back with your own changes. It never commits, rolls
        back, closes or begins anything of yours; a Session with autoflush is flushed first.
        """
        self._check_open()
        return self._joining(joined(transaction, self.binding.config))

    def close(self) -> None:
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
                    self.binding.run(call(self._steps.stop))
        finally:
            self.binding.close()

    def _live(self, call_: Call[T]) -> T:
        self._check_open()
        return (self._own or self.binding).run(call_)

    def _run(self, call_: Call[T]) -> T:
        self._check_open()
        if not self.binding.is_joined and not call_.together:
            try:
                return self.binding.run(call_)
            except TogetherError:
                call_ = call_._replace(together=True)
        self._register_apart()
        try:
            return self.binding.run(call_)
        except WorkerUnseenError:  # deleted with its queue, which may be there again
            self._register_apart()
        try:
            return self.binding.run(call_)
        except WorkerUnseenError:
            self._register_apart()  # for the caller's next transaction
            raise

    def _register_apart(self) -> None:
        # Not in the transaction to come: a rollback would take the row back.
        if self._own is not None and not self._steps.is_registered:
            self._own.run_apart(call(self._steps.registration.ensure))


class WorkerHandle(LivingWorker):
    """Any worker by its id, to look at it and to suspend, resume or stop it from elsewhere.

    `bind` is what any pgqrs object takes. The constructor does no I/O and does not register.
    """

    def __init__(self, bind: Any, worker_id: int, config: Config | None = None) -> None:
        self.binding: Binding = bound(bind, config)
        self._worker_id = worker_id
        self._life = Lifecycle(self.binding.schema, lambda _: worker_id)

    @property
    def worker_id(self) -> int:
        """The id of the worker row."""
        return self._worker_id

    def close(self) -> None:
        """Free what this object owns; the worker goes on. Idempotent."""
        self.binding.close()

    def _live(self, call_: Call[T]) -> T:
        return self.binding.run(call_)


def _nothing() -> None:
    """Stand in for a finalizer where there is nothing to give up."""


@atexit.register
def _stop_at_exit() -> None:
    # So that short scripts which never close leave no worker behind that looks alive.
    for place, registrations in standing():
        config = registrations[0].config
        engine = place if isinstance(place, Engine) else engines.single(config)
        if engine.dialect.is_async:
            continue
        binding = EngineBinding(engine, config, owned=False)
        with contextlib.suppress(PgqrsError):  # the server is away: no use to go on
            for registration in registrations:
                binding.run(call(registration.stop))
