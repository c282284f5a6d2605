"""A consumer that works its queue in the caller's thread, and ends when nothing is due."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pgqrs.binding import Binding, bound
from pgqrs.call import Call, call
from pgqrs.config import Config
from pgqrs.consumer import Consumer
from pgqrs.runner import Report
from pgqrs.running import Sessions, handling
from pgqrs.testing.bench import Bench, here

__all__ = ["InlineConsumer", "bound_to"]

_TO_THE_TWIN: Final = (
    "coroutine functions with sessions, or beneath a running event loop, are worked by"
    " pgqrs.testing.aio"
)


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
        if bench.is_async and ((joined and session is not None) or _beneath_a_loop()):
            raise TypeError(_TO_THE_TWIN)
        while (task := self._run(Call(bench.next))) is not None:
            bench.work(task)
        if joined:  # its row is in the transaction, and nobody closes it there
            self._run(call(self._steps.stop))
        return bench.report()


def _beneath_a_loop() -> bool:
    """Say whether an event loop runs in this thread: it cannot have another one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def bound_to(bind: Any, config: Config | None) -> Iterator[Binding]:
    """Give the binding for `bind`, and close it at the end."""
    binding = bound(bind, config)
    try:
        yield binding
    finally:
        binding.close()
