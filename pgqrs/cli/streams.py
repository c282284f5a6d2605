"""Standard input and output in the states that shells and services leave them in."""

from __future__ import annotations

import io
import os
import sys
from typing import Final

__all__ = ["prepare_streams", "unplug"]

_MODES: Final = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare_streams() -> None:
    """Make closed streams empty ones, and print characters that an encoding lacks as escapes."""
    for name, mode in _MODES.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def unplug() -> None:
    """Give standard output a place to go when its own is full or gone (`pgqrs … | head`)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
