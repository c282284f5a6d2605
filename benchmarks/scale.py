"""How much is measured: the default, the quick form, and the least that says anything at all."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "QUICK", "SMOKE", "Scale", "portion"]


@dataclass(frozen=True)
class Scale:
    """Rounds, messages, rows and seconds."""

    rounds: int = 7
    """Of figures in which contenders take turns."""
    part: float = 1.0
    """Of the messages that a figure of `rates` and `costs` has by default."""
    processes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    shared: int = 40_000
    """Messages that several processes drain together."""
    parked: int = 1_000_000
    """Archived rows, and as many delayed ones."""
    drained: int = 20_000
    """Messages drained beside parked rows."""
    samples: int = 2_000
    """Of the time to wake."""
    phase: float = 3.0
    """Seconds of steady work before a fault, and twice as many after it."""
    backlogs: tuple[int, ...] = (1_000, 100_000, 1_000_000)
    taken: int = 10_000
    """Messages drained of a backlog, which is then filled up again."""
    sizes: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    """Bytes of a payload."""
    volume: int = 30_000_000
    """The most bytes of payloads in one measurement."""
    imports: int = 10
    """Fresh processes that import."""
    idle: float = 5.0
    """Seconds that a worker is idle before its memory is read."""
    streamed: int = 200_000
    """Messages enqueued from an iterator and drained again."""

    @property
    def few(self) -> int:
        """How often a worker is watched by itself: woken, idle, under pressure or after a fault."""
        return max(1, self.rounds // 2)

    def messages(self, of: int) -> int:
        """Give how many messages a figure has that has so many by default."""
        return max(round(of * self.part), 1)


DEFAULT = Scale()
QUICK = Scale(
    rounds=1,
    part=0.5,
    processes=(1, 2, 4),
    shared=10_000,
    parked=100_000,
    drained=10_000,
    samples=250,
    phase=2.0,
    backlogs=(1_000, 100_000),
    sizes=(100, 10_000),
    volume=10_000_000,
    imports=3,
    idle=2.0,
    streamed=20_000,
)
SMOKE = Scale(
    rounds=1,
    part=0.01,
    processes=(1, 2),
    shared=200,
    parked=1_000,
    drained=200,
    samples=20,
    phase=0.3,
    backlogs=(200, 400),
    taken=200,
    sizes=(100, 1_000),
    volume=100_000,
    imports=1,
    idle=0.5,
    streamed=2_000,
)


def portion(n: int, seconds: float, most: float = 1.0) -> int:
    """Give how many of `n` messages take about `most` seconds, if all of them took `seconds`.

    Whoever is slow is asked for less, but for a twentieth at least.
    """
    return n if seconds <= most else max(round(n * most / seconds), n // 20, 1)
