"""A worker process: lease as there is room, hand over to handlers, settle, keep leases alive.

`lane` is the state of one queue, `slots` is where handlers run, `loop` is the only thread that
talks to the server, but for handlers that work `within` a transaction.
"""

from __future__ import annotations

from pgqrs.runner.lane import Lane
from pgqrs.runner.loop import Loop
from pgqrs.runner.settling import Report
from pgqrs.runner.slots import LoopSlots, Slots, ThreadSlots
from pgqrs.runner.task import context

__all__ = ["Lane", "Loop", "LoopSlots", "Report", "Slots", "ThreadSlots", "context"]
