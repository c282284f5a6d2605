"""What names and numbers may be: checked before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["checked_attempts", "checked_ids", "checked_name", "checked_priority", "checked_status"]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,62}")


def checked_name(name: str) -> str:
    """Give a queue's name back. Raises ValueError where it is not fit to be one."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a queue name is 1 to 63 ASCII letters, digits and _ . : / -, and begins with a"
            f" letter, a digit or _: {name!r}"
        )
    return name


def checked_ids(ids: int | Iterable[int]) -> list[int]:
    """Give ids of messages back as a list. Raises TypeError where it is none, or one no integer."""
    if isinstance(ids, Iterable):
        checked = [*ids]
        if all(type(each) is int for each in checked) and not isinstance(ids, str | bytes):
            return checked
    raise TypeError(f"an id of a message is an integer, and many are a list of those: {ids!r}")


def checked_attempts(value: int) -> int:
    """Give a limit of attempts back. Raises ValueError where it is not between 1 and a million."""
    if type(value) is not int or not 1 <= value <= 1_000_000:
        raise ValueError(f"max_attempts is between 1 and 1,000,000, not {value!r}")
    return value


def checked_priority(value: int) -> int:
    """Give a priority back. Raises ValueError where it is no smallint."""
    if type(value) is not int or not -32768 <= value <= 32767:
        raise ValueError(f"a priority is between -32768 and 32767, not {value!r}")
    return value


def checked_status(status: str) -> str:
    """Give a status of the archive back. Raises ValueError where it is empty or too long."""
    if not 1 <= len(status) <= 63:
        raise ValueError(f"a status has 1 to 63 characters, not {len(status)}")
    return status
