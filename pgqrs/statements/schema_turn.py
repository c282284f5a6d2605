"""Wait for one's turn to change what is in a schema: one at a time, until the transaction ends."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Executable, func, select

__all__ = ["schema_turn"]

_LOCK_CLASS: Final = 1_885_827_442  # the bytes of "pgqr"


def schema_turn(schema: str) -> Executable:
    """Take the lock of `schema`, which the end of the transaction gives back."""
    return select(func.pg_advisory_xact_lock(_LOCK_CLASS, func.hashtext(schema)))
