"""Work several queues in one process: the consumers, and the one loop they share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pgqrs.binding import EngineBinding, bound
from pgqrs.closing import Closing
from pgqrs.config import Config
from pgqrs.consumer import Consumer
from pgqrs.runner import Report
from pgqrs.running import AnyRunner, Lineup, Sessions, run_loop
from pgqrs.types import Duration, QueueInfo

__all__ = ["Runner"]


class Runner(AnyRunner, Closing):
    """Works several queues in one process: one thread and one connection for all of them.

    `bind` is a Config, DSN, URL, Engine, sessionmaker or another pgqrs object that is bound to one.
    Each queue has handlers, places and prefetched messages of its own, and a busy queue takes none
    of another's. The constructor and `add` do no I/O; leaving a `with` block stops the workers.
    """

    def __init__(self, bind: Any, config: Config | None = None) -> None:
        binding = bound(bind, config)
        if not isinstance(binding, EngineBinding):
            raise TypeError("a Runner needs an engine or configuration, not a transaction")
        self.binding = binding
        self._lineup = Lineup(f"this {type(self).__name__}")
        self._consumers = ExitStack()

    def add(
        self,
        queue: str | QueueInfo,
        handler: Callable[..., Any],
        *,
        concurrency: int = 1,
        prefetch: int | None = None,
        batch: bool = False,
        batch_size: int | None = None,
        timeout: Duration | None = None,
        session: Sessions | None = None,
    ) -> None:
        """Add a queue and its handler; the options are those of `Consumer.run`.

        Raises ValueError for bad options and for a queue that was added before, and
        InvalidStateError while running. That the queue exists is seen by `run`.
        """
        how = (concurrency, prefetch, batch, batch_size, timeout, session)
        work = self._checked(queue, handler, *how)
        consumer = Consumer(self, queue)
        self._consumers.callback(consumer.close)
        self._lineup.add(consumer._steps, work)  # noqa: SLF001 - we run it

    def run(self) -> Report:
        """Work all queues until told to stop, as `Consumer.run` does with one.

        Raises InvalidStateError where no queue was added or it runs already, QueueNotFoundError,
        and DatabaseError for what another connection cannot mend.
        """
        self._check_open()
        with self._lineup.starting(self.binding.waiting, self.binding.config) as loop:
            return run_loop(loop)

    def stop(self) -> None:
        """End a `run` from elsewhere, or the next as it begins; called again, end it at once."""
        self._lineup.stop()

    def close(self) -> None:
        """Stop the workers that nobody else shares, and free what this object owns. Idempotent.

        Where the server is away, their rows are left to go stale.
        """
        if not self._closed:
            self._closed = True
            with ExitStack() as all_of_it:
                all_of_it.callback(self.binding.close)
                self._consumers.close()
