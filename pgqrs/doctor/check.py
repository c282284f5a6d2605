"""What a check is: a plain function of a connection that gives findings, and maybe what mends them.

Thresholds are here, so that a test can plant a fault in seconds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from pgqrs.models import DEFAULT_SCHEMA
from pgqrs.types import Finding

__all__ = ["Check", "Terms", "command", "error", "note", "warning"]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is looked at, and from when on something is worth a word."""

    schema: str
    stale_after: dt.timedelta = dt.timedelta(minutes=1)
    held_for: dt.timedelta = dt.timedelta(minutes=1)
    held_too_long: dt.timedelta = dt.timedelta(hours=1)
    transactions: int = 100_000
    dead_rows: int = 50_000
    bloat_bytes: int = 64 * 2**20
    bloat_factor: int = 8
    small_table: int = 2**20
    """Bytes of a table below which any plan is good."""
    notifications: float = 0.1
    skew: dt.timedelta = dt.timedelta(seconds=5)
    clock: Callable[[], dt.datetime] = _now


@dataclass(frozen=True, slots=True)
class Check:
    """A named look at one thing; `mend` does what its remedies say, where that is safe."""

    name: str
    look: Callable[[Connection, Terms], Iterable[Finding]]
    mend: Callable[[Connection, Terms], object] | None = None


def command(terms: Terms, words: str) -> str:
    """Give a command line of pgqrs for what is looked at."""
    where = "" if terms.schema == DEFAULT_SCHEMA else f"--schema {terms.schema} "
    return f"pgqrs {where}{words}"


def error(message: str, remedy: str) -> Finding:
    """Say that queues cannot work as they should."""
    return Finding("error", message, remedy)


def warning(message: str, remedy: str) -> Finding:
    """Say that something will become trouble, or is trouble for some."""
    return Finding("warning", message, remedy)


def note(message: str, remedy: str) -> Finding:
    """Say that something could not be looked at, or is worth knowing."""
    return Finding("note", message, remedy)
