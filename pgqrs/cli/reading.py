"""Read messages for people and scripts: some now, or each as it comes, until told to stop."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final

from pgqrs.cli.render import field_names, fields

if TYPE_CHECKING:
    from pgqrs.cli.options import Options
    from pgqrs.types import QueueMessage

__all__ = ["follow", "read_now"]

_COLUMNS: Final = ("id", "read_ct", "consumer_worker_id", "lease", "vt", "payload")


def read_now(options: Options, queue: str, count: int, lock_time: float | None) -> None:
    """Lease up to `count` messages and print them; the leases are left to run out."""
    from pgqrs.consumer import Consumer

    with Consumer(options.config(), queue) as consumer:
        messages = consumer.dequeue_batch(count, lock_time)
        options.output.many(map(_record, messages), _COLUMNS, "no message is due", _fields())
        consumer.close(release=False)


def follow(options: Options, queue: str, count: int | None, lock_time: float | None) -> None:
    """Lease messages and print each at once, `count` of them or until SIGINT or SIGTERM.

    What was printed stays leased; a message that comes after the signal is not leased.
    """
    from pgqrs.consumer import Consumer

    told: list[int] = []
    printing = options.output.rows(_COLUMNS, _fields())
    with Consumer(options.config(), queue) as consumer, printing as rows:

        def stop(number: int, _frame: Any) -> None:
            told.append(number)
            consumer.stop()

        message = consumer.poll(0, lock_time)  # from here on it can be stopped
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        try:
            left = count
            while not (told and message is None):
                if message is not None:
                    rows.add(_record(message))
                    rows.flush()
                    left = None if left is None else left - 1
                    if left == 0 or told:
                        break
                message = consumer.poll(None, lock_time)
        finally:
            consumer.close(release=False)


def _record(message: QueueMessage) -> dict[str, Any]:
    from pgqrs.handover import lease_of

    return {**fields(message), "lease": str(lease_of(message))}


def _fields() -> list[str]:
    from pgqrs.types import QueueMessage

    return [*field_names(QueueMessage), "lease"]
