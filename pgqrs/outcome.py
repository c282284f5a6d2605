"""What a handler can say of a message beside returning its output or raising an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pgqrs.types import Duration

__all__ = ["Dead", "Done", "Outcome", "Retry"]


@dataclass(frozen=True, slots=True)
class Done:
    """The message is completed, with this output; the same as returning the output."""

    output: Any = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed: try again after `delay`, or the queue's retry delay; dead if the last."""

    delay: Duration | None = None
    error: Any = "the handler asked for a retry"


@dataclass(frozen=True, slots=True)
class Dead:
    """The message can never be worked: it is archived as dead at once."""

    reason: Any


Outcome = Done | Retry | Dead
"""What a handler may return instead of an output."""
