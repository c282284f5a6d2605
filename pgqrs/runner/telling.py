"""What is logged of attempts: a record for each that an exception ended, none for the others.

The records carry `queue`, `message_id` and `attempt`, for formatters and filters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from pgqrs.operations.settle import text_of
from pgqrs.types import QueueMessage

__all__ = ["Teller", "tell_overrun"]

_log: Final = logging.getLogger("pgqrs.run")


class Teller:
    """Tells of the failures of one task; of a batch that failed as a whole the trace once."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._told: BaseException | None = None

    def failed(self, message: QueueMessage, error: BaseException) -> None:
        """Log that an attempt ended with this exception."""
        _log.warning(
            "attempt %d at message %d of queue %s failed: %s: %s",
            message.attempts,
            message.id,
            self._queue,
            type(error).__name__,
            text_of(error),
            exc_info=None if error is self._told else error,
            extra={"queue": self._queue, "message_id": message.id, "attempt": message.attempts},
        )
        self._told = error


def tell_overrun(queue: str, messages: Sequence[QueueMessage]) -> None:
    """Log that a handler is past its time limit and goes on all the same."""
    first = messages[0]
    _log.warning(
        "the handler of %s on queue %s overran its limit and cannot be stopped: its lease runs out,"
        " its result is refused, and its slot stays taken",
        [message.id for message in messages],
        queue,
        extra={"queue": queue, "message_id": first.id, "attempt": first.attempts},
    )
