"""Ask how isolated the present transaction is."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Executable, text

__all__ = ["isolation_level"]


@cache
def isolation_level() -> Executable:
    """Give the level of the present transaction, in lower case; takes no snapshot."""
    return text("SHOW transaction_isolation")
