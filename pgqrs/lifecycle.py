"""The life of a worker as calls, for whichever class it is and for the asyncio classes alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from pgqrs.call import Call, call
from pgqrs.closing import Closing
from pgqrs.operations import lifecycle, workers
from pgqrs.types import Duration, WorkerInfo, WorkerStatus, span

__all__ = ["Lifecycle", "LivingWorker", "Worker"]

T = TypeVar("T")


class Worker(Protocol):
    """What a Producer, a Consumer, an Admin and a WorkerHandle are: something with a life.

    ready ⇄ suspended → stopped. A suspended or stopped consumer leases nothing, at once.
    """

    @property
    def worker_id(self) -> int | None:
        """The id of the worker row; None until the worker is registered."""

    def status(self) -> WorkerStatus:
        """Give the status. Raises WorkerNotFoundError."""
        ...

    def heartbeat(self) -> None:
        """Say that the worker is alive."""

    def is_healthy(self, max_age: Duration) -> bool:
        """Say whether it is not stopped, and beat within `max_age`."""
        ...

    def suspend(self) -> None:
        """Lease no more."""

    def resume(self) -> None:
        """Lease again."""

    def shutdown(self, *, release: bool = False) -> None:
        """Stop a suspended worker for good."""


class Lifecycle:
    """Prepares the calls of a life; `identify` gives the worker's id, registering if need be."""

    def __init__(self, schema: str, identify: Callable[[Connection], int]) -> None:
        self._schema = schema
        self._identify = identify

    def status(self) -> Call[WorkerStatus]:
        """Give the status."""
        return call(self._status)

    def heartbeat(self) -> Call[None]:
        """Beat."""
        return call(self._heartbeat)

    def is_healthy(self, max_age: Duration) -> Call[bool]:
        """Say whether it is not stopped, and beat lately. Raises ValueError."""
        return self._mine(partial(lifecycle.is_healthy, max_age=span(max_age)))

    def suspend(self) -> Call[WorkerInfo]:
        """Lease no more."""
        return self._mine(lifecycle.suspend)

    def resume(self) -> Call[WorkerInfo]:
        """Lease again."""
        return self._mine(lifecycle.resume)

    def shutdown(self, *, release: bool) -> Call[None]:
        """Stop a suspended worker."""
        return self._mine(partial(lifecycle.shutdown, release=release))

    def _mine(self, step: Callable[[Connection, str, int], T]) -> Call[T]:
        return Call(lambda connection: step(connection, self._schema, self._identify(connection)))

    def _status(self, connection: Connection) -> WorkerStatus:
        return workers.get(connection, self._schema, self._identify(connection)).status

    def _heartbeat(self, connection: Connection) -> None:
        workers.beat(connection, self._schema, [self._identify(connection)])


class LivingWorker(Closing):
    """A sync worker's life: each method runs the call of its name."""

    _life: Lifecycle

    def status(self) -> WorkerStatus:
        """Give the status. Raises WorkerNotFoundError where the row was deleted."""
        return self._live(self._life.status())

    def heartbeat(self) -> None:
        """Say that this worker is alive, registering it if need be.

        Raises QueueNotFoundError, WorkerExistsError, DatabaseError.
        """
        self._live(self._life.heartbeat())

    def is_healthy(self, max_age: Duration) -> bool:
        """Say whether it is not stopped, and beat within `max_age`. Raises WorkerNotFoundError."""
        return self._live(self._life.is_healthy(max_age))

    def suspend(self) -> None:
        """Lease no more, at once; what is held may be finished.

        Raises WorkerNotFoundError, and InvalidStateError where it is stopped.
        """
        self._live(self._life.suspend())

    def resume(self) -> None:
        """Lease again. Raises WorkerNotFoundError, and InvalidStateError where it is stopped."""
        self._live(self._life.resume())

    def shutdown(self, *, release: bool = False) -> None:
        """Stop a suspended worker for good; one that is stopped stays so.

        Raises WorkerNotFoundError, InvalidStateError where it was not suspended first, and
        WorkerHasPendingMessagesError where it holds messages, unless `release`, which gives them
        back at no attempt's cost.
        """
        self._live(self._life.shutdown(release=release))

    def _live(self, call_: Call[T]) -> T:
        raise NotImplementedError
