"""What a message and its queue may be given, and what holds: its own, the queue's, or the usual.

Durations are seconds, no two alike where it is to be seen whose was taken. The longest is less than
a `LEAP` of the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

HOUR = 3600
LEAP = 5.3
"""Hours; no multiple comes near a time that something is kept for."""
KEPT_FOR, HISTORY, DAY = 24, 10, 24
"""Hours: of a message, of a queue, and until a key or a worker is looked at again."""
LETTERS = "letters"

MESSAGE: dict[str, list[Any]] = {
    "priority": [None, -1, 1, 2],
    "delay": [None, None, None, HOUR],
    "deliver_at": [None, None, None, -HOUR, HOUR],
    "max_attempts": [None, None, 1, 2],
    "retry_delay": [None, 0, 0.9 * HOUR],
    "retry_delay_max": [None, None, 1.4 * HOUR],
    "retry_backoff": [None, False, True],
    "expire_in": [None, 3 * HOUR],
    "retain_for": [None, KEPT_FOR * HOUR],
    "dead_letter": [None, "", LETTERS],
    "headers": [None, {"trace": "a"}],
    "singleton_for": [None, None, None, None, None, HOUR],
    "key": [None, "a", "b", "c", "d", "e"],
}
QUEUE: dict[str, list[Any]] = {
    "visibility_timeout": [None, HOUR, 2.5 * HOUR],
    "max_attempts": [None, 1, 2, 4],
    "retry_delay": [None, 0, HOUR],
    "retry_delay_max": [None, 1.7 * HOUR],
    "retry_backoff": [None, False, True],
    "archive_mode": [None, "full", "meta", "none"],
    "dead_letter": [None, "", LETTERS],
    "retention": [None, HISTORY * HOUR],
}
USUAL: dict[str, Any] = {
    "visibility_timeout": 1.5 * HOUR,
    "max_attempts": 3,
    "retry_delay": 1.2 * HOUR,
    "retry_delay_max": 2.2 * HOUR,
    "retry_backoff": True,
    "archive_mode": "full",
    "dead_letter": "",
    "retention": None,
    "expire_in": None,
    "retain_for": None,
}
SETTINGS: dict[str, Any] = {
    "default_lock_time_seconds": USUAL["visibility_timeout"],
    "max_attempts": USUAL["max_attempts"],
    "retry_delay_seconds": USUAL["retry_delay"],
    "retry_delay_max_seconds": USUAL["retry_delay_max"],
    "retry_backoff": USUAL["retry_backoff"],
    "heartbeat_interval_seconds": HOUR / 2,
    "stale_after_seconds": HOUR,
}
"""What is usual, as a configuration; and nobody beats or is stale but by a leap of the clock."""


def some(choices: Mapping[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Choose of each something, or None."""
    return st.fixed_dictionaries({name: st.sampled_from(them) for name, them in choices.items()})


def changes(choices: Mapping[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Choose of some something."""
    each = [st.tuples(st.just(name), st.sampled_from(them)) for name, them in choices.items()]
    return st.lists(st.one_of(each), min_size=1, max_size=3).map(dict)


def holding(name: str, *given: Mapping[str, Any]) -> Any:
    """Say what holds: what the first says that says anything, or else the usual."""
    return next((said[name] for said in given if said.get(name) is not None), USUAL[name])


def wait_after(attempts: int, *given: Mapping[str, Any]) -> tuple[float, float]:
    """Give the shortest and the longest time, in seconds, from a failed attempt to the next."""
    usual = holding("retry_delay", *given)
    if not holding("retry_backoff", *given):
        return usual, usual
    most, grown = holding("retry_delay_max", *given), usual * 2 ** (attempts - 1)
    return min(most, min(most, grown) * 0.8), min(most, min(most, grown) * 1.2)
