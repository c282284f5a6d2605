"""Run a loop beside an event loop: the twin of what `pgqrs.running` does in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from pgqrs.runner import Loop, Report
from pgqrs.running import stopping_on_signals

__all__ = ["in_a_thread", "run_loop"]

T = TypeVar("T")


async def run_loop(loop: Loop) -> Report:
    """Work in a thread until stopped, by signals too; cancelling stops it in good order."""
    running = in_a_thread(loop.run)
    with stopping_on_signals(loop):
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            loop.stop()
            while not running.done():
                try:
                    await asyncio.wait([running])
                except asyncio.CancelledError:  # once more: end it at once
                    loop.stop()
            raise


def in_a_thread(act: Callable[[], T]) -> asyncio.Future[T]:
    """Do something that waits for long in a thread of its own.

    The threads of the event loop's own pool are few, and handlers need them.
    """
    here = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = here.create_future()

    def tell(settle: Callable[[Any], None], value: Any) -> None:
        if not outcome.done():
            settle(value)

    def work() -> None:
        try:
            settle, value = outcome.set_result, act()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            settle, value = outcome.set_exception, error  # type: ignore[assignment]
        with suppress(RuntimeError):  # the event loop is closed, and nobody waits
            here.call_soon_threadsafe(tell, settle, value)

    threading.Thread(target=work, name="pgqrs-run", daemon=True).start()
    return outcome
