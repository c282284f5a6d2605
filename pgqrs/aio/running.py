"""Run a loop beside an event loop: the twin of what `pgqrs.running` does in a thread."""

from __future__ import annotations

import asyncio

from pgqrs.runner import Loop, Report
from pgqrs.running import stopping_on_signals

__all__ = ["run_loop"]


async def run_loop(loop: Loop) -> Report:
    """Work in a thread until stopped, by signals too; cancelling stops it in good order."""
    running = asyncio.ensure_future(asyncio.to_thread(loop.run))
    with stopping_on_signals(loop):
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            loop.stop()
            await running
            raise
