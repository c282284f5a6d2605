"""What a forked child must forget: connections, worker ids and leases are its parent's."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["Forgetful", "forget_in_child"]


class Forgetful(Protocol):
    """Something that belongs to one process."""

    def after_fork_in_child(self) -> None:
        """Forget what is the parent's, without any I/O."""


_all: weakref.WeakSet[Forgetful] = weakref.WeakSet()


def forget_in_child(thing: Forgetful) -> None:
    """Have `thing` told when this process was forked, in the child."""
    _all.add(thing)


def _tell() -> None:
    for thing in list(_all):
        thing.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
