"""Lease messages and acknowledge them: on which connection. What is done is `ConsumerSteps`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from types import TracebackType
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from pgqrs.binding import EngineBinding
from pgqrs.consumer_steps import ConsumerSteps, Held, as_typed
from pgqrs.heartbeat import Heartbeat, heartbeat_for
from pgqrs.polling import Poller
from pgqrs.runner import Report
from pgqrs.running import Lineup, Sessions, handling, run_loop
from pgqrs.types import ArchivedMessage, Duration, QueueMessage, span
from pgqrs.worker import BoundWorker, signing_off

__all__ = ["Consumer"]

B = TypeVar("B", bound=BaseModel)


class Consumer(BoundWorker[ConsumerSteps]):
    """Leases messages of one queue and acknowledges them.

    `bind` is a Config, DSN, URL, Engine, sessionmaker or another pgqrs object: then each call is a
    transaction of its own. With a Session or Connection every call is `within` it. `queue` is a
    name or QueueInfo. An explicit hostname and port register a worker of their own; otherwise one
    row is shared in the process. The constructor does no I/O.

    Leaving a `with` block gives back what is still held, at no attempt's cost, and stops the
    worker; on an exception leases are left to run out, so that their attempts count.
    """

    _steps_type = ConsumerSteps
    _poller: Poller | None = None
    _heart: Heartbeat | None = None

    @overload
    def dequeue(self, vt: Duration | None = None) -> QueueMessage | None: ...
    @overload
    def dequeue(self, vt: Duration | None = None, *, type: type[B]) -> QueueMessage[B] | None: ...
    def dequeue(
        self, vt: Duration | None = None, *, type: type[BaseModel] | None = None
    ) -> QueueMessage[Any] | None:
        """Lease the next due message for `vt` (the queue's visibility timeout), or give None.

        The highest priority goes first, then the oldest. Also None on a paused queue and for a
        suspended or stopped worker. With `type`, a pydantic model, the payload is one, checked
        when first read. `within` a transaction a rollback gives the attempt back too, so
        `max_attempts` does not protect there. Raises QueueNotFoundError, UnavailableError.
        """
        messages = self._run(self._steps.leasing(1, vt))
        self._keep_alive(messages)
        return as_typed(messages, type)[0] if messages else None

    @overload
    def dequeue_batch(self, size: int, vt: Duration | None = None) -> list[QueueMessage]: ...
    @overload
    def dequeue_batch(
        self, size: int, vt: Duration | None = None, *, type: type[B]
    ) -> list[QueueMessage[B]]: ...
    def dequeue_batch(
        self, size: int, vt: Duration | None = None, *, type: type[BaseModel] | None = None
    ) -> list[QueueMessage[Any]]:
        """Lease up to `size` due messages, `max_batch_size` at most; otherwise as `dequeue`."""
        messages = self._run(self._steps.leasing(size, vt))
        self._keep_alive(messages)
        return as_typed(messages, type)

    def poll(
        self, timeout: Duration | None = None, vt: Duration | None = None
    ) -> QueueMessage | None:
        """Lease the next message, waiting for one up to `timeout` (None: until `stop`).

        Woken by a notification, by a message that comes due, or at the poll interval; a lost
        connection is made again meanwhile. Otherwise as `dequeue`. For one thread at a time.
        """
        seconds = None if timeout is None else span(timeout).total_seconds()
        messages = self._waiting().poll(self._steps.waiting(vt), seconds)
        self._keep_alive(messages)
        return messages[0] if messages else None

    def __iter__(self) -> Iterator[QueueMessage]:
        """Give messages as they come, until `stop`; each is to be acknowledged by the caller."""
        while (message := self.poll()) is not None:
            yield message

    def archive(
        self, message: Held, status: str = "completed", output: Any = None
    ) -> ArchivedMessage:
        """Finish a message: move it to the archive under `status`, with `output` (JSON) kept.

        By id only what this very object leased; by message only under the lease it came with.
        A lease that ran out still counts, unless the message was leased again. Raises
        LeaseLostError, PayloadError, ValueError for a status that is empty or too long.
        """
        return self._run(self._steps.archiving(message, status, output))

    def archive_batch(self, messages: Iterable[Held]) -> list[bool]:
        """Finish many as completed; says for each, in order, whether its lease was held."""
        return self._run(self._steps.archiving_many(messages))

    def archive_and_dequeue(
        self, messages: Iterable[Held], size: int = 1, vt: Duration | None = None
    ) -> tuple[list[bool], list[QueueMessage]]:
        """Finish many as completed and lease up to `size` due messages, in one statement.

        One commit instead of two: for a loop that takes the next when it is done with the last.
        Gives for each of `messages`, in order, whether its lease was held, and what was leased.
        Sent again where the reply was lost; what the first one leased then comes back when its
        lease runs out. Otherwise as `archive_batch` and `dequeue_batch`.
        """
        archived, leased = self._run(self._steps.exchanging(messages, size, vt))
        self._keep_alive(leased)
        return archived, leased

    def delete(self, message: Held) -> None:
        """Finish a message without a trace. Raises LeaseLostError."""
        self._run(self._steps.deleting(message))

    def delete_batch(self, messages: Iterable[Held]) -> list[bool]:
        """Delete many; says for each, in order, whether its lease was held."""
        return self._run(self._steps.deleting_many(messages))

    def extend_visibility(self, message: Held, by: Duration) -> QueueMessage:
        """Push the end of an unexpired lease out to `by` from now; it is never shortened.

        Gives the message with its new vt. Raises LeaseLostError.
        """
        return self._run(self._steps.extending(message, by))

    def fail(self, message: Held, error: Any, delay: Duration | None = None) -> bool:
        """End an attempt that failed: the message is due again later, or dead after its last.

        `error` is an exception, text or a JSON value, and is kept. `delay` is how long to wait;
        None follows the queue's retry delay, which doubles with each attempt. Gives whether the
        message is dead now. Raises LeaseLostError, ValueError.
        """
        return self._run(self._steps.failing(message, error, delay))

    def run(
        self,
        handler: Callable[..., Any],
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        batch: bool = False,
        batch_size: int | None = None,
        timeout: Duration | None = None,
        session: Sessions | None = None,
    ) -> Report:
        """Work the queue until told to stop: lease, call `handler`, settle, over and over.

        `handler` gets a message, or with `batch` (or a `batch_size`) a list of them. What it
        returns is archived as output; an exception is a failed attempt; it may also return `Done`,
        `Retry` or `Dead` (of a batch: None, or a list with an item for each message). With a
        sessionmaker as `session` it gets a session too, and what it writes there is committed with
        the end of its message, or not at all. Plain functions run in `concurrency` threads,
        coroutine functions on an event loop. `prefetch` messages are leased ahead; without it
        `prefetch_count`, or if that is not set either, up to `max_batch_size` for quick handlers.
        Leases are extended up to `timeout`: then a coroutine is cancelled, a thread loses it.

        SIGTERM and SIGINT (in the main thread) and `stop` end it: no more is leased, handlers get
        `shutdown_timeout_seconds`, what never started is given back; a second one ends it at once.
        Raises ValueError and TypeError for bad options, DatabaseError if no new connection helps.
        """
        own, how = self._engine_of_mine(), (concurrency, prefetch, batch, batch_size, timeout)
        self._lineup.add(self._steps, handling(handler, own.config, *how, session))
        with self._lineup.starting(own.waiting, own.config) as loop:
            return run_loop(loop)

    def stop(self) -> None:
        """End a `run`, `poll` or iteration from elsewhere; called again, end a run at once.

        Where nothing is under way, the next ends as it begins.
        """
        if self._poller is None or self._lineup.is_running:
            self._lineup.stop()
        if self._poller is not None:
            self._poller.stop()

    @overload
    def release(self, messages: Held, delay: Duration = 0) -> None: ...
    @overload
    def release(self, messages: Iterable[Held], delay: Duration = 0) -> list[bool]: ...
    def release(self, messages: Held | Iterable[Held], delay: Duration = 0) -> list[bool] | None:
        """Give a lease (or many) back, due again after `delay`; it costs no attempt.

        One that is lost raises LeaseLostError; of many, says for each whether it was held.
        """
        if isinstance(messages, int | QueueMessage):
            self._run(self._steps.releasing(messages, delay))
            return None
        return self._run(self._steps.releasing_many(messages, delay))

    def close(self, *, release: bool = True) -> None:
        """Give back what is still held, then stop the worker if nobody else shares it.

        Without `release` leases are left to run out, and their attempts count. Where the server
        cannot be reached the same happens, with a warning in the log and no error. Idempotent.
        """
        try:
            if (
                release
                and not self._closed
                and self._own is self.binding
                and self._steps.ledger.fences()
            ):
                with signing_off():
                    self.binding.run(self._steps.releasing_all())
        finally:
            self._let_go()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(release=error is None)

    def _waiting(self) -> Poller:
        self._check_open()
        if self._poller is None:
            own = self._engine_of_mine()
            self._poller = Poller(self.queue, own.waiting, own.config)
        return self._poller

    @cached_property
    def _lineup(self) -> Lineup:
        return Lineup(f"this {type(self).__name__}")

    def _engine_of_mine(self) -> EngineBinding:
        if not isinstance(self.binding, EngineBinding):
            raise TypeError("this needs a consumer that is bound to an engine or configuration")
        return self.binding

    def _keep_alive(self, messages: list[QueueMessage]) -> None:
        ledger = self._steps.ledger
        if not messages or (self._heart is not None and self._heart.keeps(ledger)):
            return
        if isinstance(self._own, EngineBinding):
            self._heart = self._heartbeat(self._own)
            self._heart.keep(ledger, self._steps.registration)

    def _heartbeat(self, own: EngineBinding) -> Heartbeat:
        return heartbeat_for(own.engine, own.apart, own.config.heartbeat_interval_seconds)

    def _let_go(self) -> None:
        if isinstance(self._own, EngineBinding) and self._own is self.binding:
            self._heartbeat(self._own).drop(self._steps.ledger)
        if self._poller is not None:
            self._poller.close()
        super().close()
