"""How Ctrl-C and its like end a command that has something to clean up."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final

__all__ = ["end_as_interrupted", "ignore_interrupts"]

_SIGNALS: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def end_as_interrupted() -> None:
    """Let SIGTERM and a closed terminal end the command as Ctrl-C does: by KeyboardInterrupt.

    That is raised once: what comes later does not disturb the cleaning up.
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def ignore_interrupts() -> None:
    """Finish in peace: what remains to be done is short."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    ignore_interrupts()
    raise KeyboardInterrupt
