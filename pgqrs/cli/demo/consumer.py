"""One consumer process of the demo: `python -m pgqrs.cli.demo.consumer`.

Its first line of input says where the queue is, so that a password is in no process list. It works
until its input ends, however the demo itself ended.
"""

from __future__ import annotations

import contextlib
import gc
import json
import select
import sys
from typing import Any, Final

from pgqrs.cli.demo.source import measure
from pgqrs.config import Config
from pgqrs.consumer import Consumer
from pgqrs.errors import LeaseLostError
from pgqrs.types import QueueMessage

__all__ = ["main"]

_IDLE_SECONDS: Final = 0.1


def main() -> int:
    """Consume the queue that the first line of input names."""
    # Syntax trees are large and without cycles: looking for some is a quarter of the work.
    gc.set_threshold(100_000)
    assignment = json.loads(sys.stdin.buffer.readline())
    with Consumer(Config.from_dsn(**assignment["config"]), assignment["queue"]) as consumer:
        while not _dismissed(0):
            messages = consumer.dequeue_batch(assignment["batch"])
            if not messages and _dismissed(_IDLE_SECONDS):
                break
            for message in messages:
                if _dismissed(0):  # closing gives the rest back
                    break
                _work(consumer, message)
    return 0


def _work(consumer: Consumer, message: QueueMessage) -> None:
    result: dict[str, Any] = measure(message.payload["path"])
    # Lost is what took longer than the visibility timeout: another consumer has it.
    with contextlib.suppress(LeaseLostError):
        consumer.archive(message, output=result)


def _dismissed(seconds: float) -> bool:
    return bool(select.select([sys.stdin], [], [], seconds)[0])


if __name__ == "__main__":
    sys.exit(main())
