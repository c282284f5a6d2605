"""Read single keys from a terminal, which is as it was afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import select
from collections.abc import Iterator
from typing import Final

__all__ = ["keys_of", "read", "single_keys"]

_NAMES: Final = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "k": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "j": "down",
    "\r": "enter",
    "\n": "enter",
    "\x1b": "back",
    "b": "back",
    "\x7f": "back",
    "\x04": "q",
}
_KEY: Final = re.compile(r"\x1b(?:[\[O][0-9;]*[A-Za-z~])?|.", re.DOTALL)


def keys_of(typed: str) -> list[str]:
    """Give the names of the keys that were typed; what has none is itself."""
    found = [match[0] for match in _KEY.finditer(typed)]
    return [_NAMES.get(key, key) for key in found]


@contextlib.contextmanager
def single_keys(terminal: int) -> Iterator[None]:
    """Have a terminal give each key at once and show none; Ctrl-C goes on to interrupt."""
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def read(terminal: int, bell: int, seconds: float) -> list[str]:
    """Wait for keys, for a byte from `bell`, or so long; a terminal that is gone is a `q`."""
    ready, _, _ = select.select([terminal, bell], [], [], seconds)
    if bell in ready:
        os.read(bell, 4096)
    if terminal not in ready:
        return []
    typed = os.read(terminal, 1024)
    return keys_of(typed.decode(errors="replace")) if typed else ["q"]
