"""How one queue stands: the value that measuring it gives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["QueueMetrics"]


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """How a queue stands at one instant.

    `pending` messages are due and free to lease (expired leases among them), `delayed` are not yet
    due, `locked` are leased; `total_messages` is their sum, without the archive. Unless exact
    counts were asked for, each count stops at `limit`, and `capped` says whether one did.
    `dead` counts what ran out of attempts, among the newest `limit` archived messages that did not
    complete. `unhandled_types` counts messages by type that no worker so far had a handler for:
    they are among the delayed, given back each time before anything was begun.
    `rate_in` and `rate_out` are messages a second that were enqueued and archived in the last
    minute, or in the shorter time that the newest 2,000 rows tell of; what was deleted leaves no
    trace, so both are None under the archive mode `none`.
    """

    queue_id: int
    queue_name: str
    paused: bool
    pending: int
    delayed: int
    locked: int
    archived: int
    oldest_pending_at: dt.datetime | None
    oldest_pending_age: dt.timedelta | None
    limit: int | None
    dead: int = 0
    rate_in: float | None = None
    rate_out: float | None = None
    unhandled_types: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def total_messages(self) -> int:
        """Messages in the queue: pending, delayed and locked."""
        return self.pending + self.delayed + self.locked

    @property
    def capped(self) -> bool:
        """Whether any of the counts stopped at `limit`, and the true one may be higher."""
        counts = (self.pending, self.delayed, self.locked, self.archived)
        return self.limit is not None and max(counts) >= self.limit
