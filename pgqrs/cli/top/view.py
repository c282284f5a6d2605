"""What is shown: values alone, moved on by what is measured and by keys."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pgqrs.overview import SystemStats
from pgqrs.queue_metrics import QueueMetrics
from pgqrs.types import WorkerHealth

__all__ = ["KEPT_LOOKS", "Measured", "View"]

KEPT_LOOKS: Final = 120
"""How many looks the history of a queue goes back."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One look at everything, by the clock of this machine."""

    at: dt.datetime
    stats: SystemStats
    workers: tuple[WorkerHealth, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Everything a picture is made of."""

    interval: float
    read_only: bool = False
    live: bool = True
    """Whether somebody watches, and keys do something."""
    measured: Measured | None = None
    depths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What was pending or leased in each queue at the last looks, the newest last."""
    chosen: str | None = None
    closer: bool = False
    said: str = ""
    trouble: str | None = None

    @property
    def queues(self) -> tuple[QueueMetrics, ...]:
        """All queues, by name."""
        return self.measured.stats.by_queue if self.measured else ()

    @property
    def chosen_queue(self) -> QueueMetrics | None:
        """The queue that keys are about; None where there is none."""
        return next((each for each in self.queues if each.queue_name == self.chosen), None)

    def looked(self, measured: Measured) -> View:
        """Show what was measured now."""
        queues = measured.stats.by_queue
        depths = {
            queue.queue_name: (
                *self.depths.get(queue.queue_name, ())[1 - KEPT_LOOKS :],
                queue.pending + queue.locked,
            )
            for queue in queues
        }
        chosen = self.chosen if self.chosen in depths else next(iter(depths), None)
        closer = self.closer and chosen == self.chosen
        changed = replace(self, measured=measured, depths=depths, chosen=chosen, closer=closer)
        return replace(changed, trouble=None)

    def failed(self, trouble: str) -> View:
        """Say that it could not be measured; what was stays, with its time."""
        return replace(self, trouble=trouble)

    def moved(self, steps: int) -> View:
        """Choose a queue further down, or up; not past the ends."""
        names = [queue.queue_name for queue in self.queues]
        if self.chosen not in names:
            return self
        place = min(max(names.index(self.chosen) + steps, 0), len(names) - 1)
        return replace(self, chosen=names[place], said="")
