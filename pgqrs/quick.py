"""Make many frozen values quickly.

The constructor of a frozen dataclass sets each field through `object.__setattr__`, which takes five
times as long as plain assignment: for a batch of messages that is more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, field, fields, make_dataclass
from typing import Any, TypeVar

from typing_extensions import get_original_bases

__all__ = ["quick"]

T = TypeVar("T")


def quick(cls: type[T]) -> Callable[..., T]:
    """Give a function that does what the constructor of a frozen, slotted dataclass does.

    A value is filled as one of a class that is alike but not frozen, and then becomes one of `cls`.
    """
    like: Any = [
        (each.name, each.type, field(default=each.default, init=each.init))
        if each.default is not MISSING
        else (each.name, each.type)
        for each in fields(cls)  # type: ignore[arg-type]
    ]
    loose = make_dataclass(cls.__name__, like, bases=get_original_bases(cls), slots=True)

    def make(*values: Any) -> T:
        value: Any = loose(*values)
        value.__class__ = cls
        made: T = value
        return made

    return make
