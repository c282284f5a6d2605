"""The status line of a worker: a line on standard error, where a person looks at it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from pgqrs.cli.render import console, printable

if TYPE_CHECKING:
    from pgqrs.runner import Report

__all__ = ["StatusLine", "is_watched", "showing"]


class StatusLine:
    """How things stand, in a line; each asking moves the rate on."""

    def __init__(
        self,
        queues: Sequence[str],
        ask: Callable[[], tuple[int, Report]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = queues
        self._ask = ask
        self._clock = clock
        self._seen = (clock(), 0)
        self._rate = 0.0

    def __call__(self) -> Text:
        """Give the line: queues, processes, done, the rate, failed, running now."""
        processes, report = self._ask()
        now, (then, before) = self._clock(), self._seen
        if now - then >= 0.5:
            self._rate = (report.completed - before) / (now - then)
            self._seen = (now, report.completed)
        parts = [
            printable(", ".join(self._queues)),
            f"{processes} process" + ("" if processes == 1 else "es"),
            f"{report.completed:,} done",
            f"{self._rate:,.0f}/s",
            f"{report.failed:,} failed",
            f"{len(report.still_running):,} running",
        ]
        return Text("  ".join(parts), no_wrap=True, overflow="ellipsis")


def is_watched() -> bool:
    """Say whether standard error is a terminal that can rewrite a line."""
    out = console(sys.stderr)
    return sys.stderr.isatty() and out.is_terminal and not out.is_dumb_terminal


def showing(line: Callable[[], Text], *, if_: bool) -> contextlib.AbstractContextManager[object]:
    """Show the line for the block, anew each second, and take it away at the end."""
    if not if_:
        return contextlib.nullcontext()
    return Live(
        get_renderable=line,
        console=console(sys.stderr),
        refresh_per_second=1,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
