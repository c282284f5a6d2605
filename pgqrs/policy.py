"""How many messages of one key a queue lets wait, or be leased, at once."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["QueuePolicy"]


class QueuePolicy(StrEnum):
    """What a queue allows of the messages with one `singleton_key`; without one, of all others.

    STANDARD: anything. SHORT: one that waits for its first lease. SINGLETON: one leased. STATELY:
    one of each state, waiting for the first lease, leased, and waiting again. EXCLUSIVE: one that
    waits or is leased. FIFO: of one `ordering_key` one leased, in the order they were enqueued; one
    that failed holds back those behind it. It is given when a queue is made, and stays.
    """

    STANDARD = "standard"
    SHORT = "short"
    SINGLETON = "singleton"
    STATELY = "stately"
    EXCLUSIVE = "exclusive"
    FIFO = "fifo"
