"""A consumer that works its queue in the caller's thread, and ends when nothing is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pgqrs.binding import Binding, bound
from pgqrs.call import Call, call
from pgqrs.config import Config
from pgqrs.consumer import Consumer
from pgqrs.runner import Report
from pgqrs.running import Sessions, handling
from pgqrs.testing.bench import Bench, here

__all__ = ["InlineConsumer", "bound_to"]


class InlineConsumer(Consumer):
    """A Consumer with one more way to work, for tests."""

    def work(
        self,
        handler: Callable[..., Any],
        session: Sessions | None,
        batch_size: int | None,
        at_most: int | None,
        *,
        raises: bool,
    ) -> Report:
        """Work until nothing is due; see `pgqrs.testing.work`."""
        config, joined = self.binding.config, self.binding.is_joined
        how = handling(handler, config, 1, 0, False, batch_size, None, session)
        if joined and session is not None:
            connection = self._run(Call(lambda connection: connection))
            how = here(how, connection)
        bench = Bench(self._steps, how, at_most, raises=raises)
        if joined and session is not None and bench.is_async:
            raise TypeError("coroutine functions with sessions are worked by pgqrs.testing.aio")
        while (task := self._run(Call(bench.next))) is not None:
            bench.work(task)
        if joined:  # its row is in the transaction, and nobody closes it there
            self._run(call(self._steps.stop))
        return bench.report()


@contextmanager
def bound_to(bind: Any, config: Config | None) -> Iterator[Binding]:
    """Give the binding for `bind`, and close it at the end."""
    binding = bound(bind, config)
    try:
        yield binding
    finally:
        binding.close()
