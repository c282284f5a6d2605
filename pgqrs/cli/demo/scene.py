"""What the demo shows while it runs: the state of the queue and its consumers at one moment."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from pgqrs.cli.demo.records import Tally

__all__ = ["Pace", "Scene"]

_WINDOW_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Scene:
    """The queue and its consumers; `rate` is messages a second."""

    total: int
    pending: int
    leased: int
    archived: int
    rate: float
    consumers: Sequence[Tally]
    killed: Collection[int]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left in the queue."""
        return self.archived >= self.total and not self.pending and not self.leased


@dataclass(slots=True)
class Pace:
    """How fast the archive grows, over the last moments."""

    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def rate(self, archived: int) -> float:
        """Note a count; give messages a second since the oldest one in the window."""
        now = time.monotonic()
        self._seen.append((now, archived))
        while now - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
        then, before = self._seen[0]
        return (archived - before) / (now - then) if now > then else 0.0
