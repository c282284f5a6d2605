"""A worker process whose handler writes in its message's transaction, and that kills itself.

``python within_client.py DSN POINT``: dies when it comes to that point the second time.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from host import Order
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from pgqrs import Config, Consumer, QueueMessage

POINTS = ("handling", "archived, not committed", "committed, not reported")


def after(times: int) -> Callable[..., None]:
    """Give what ends this process, without a word, when it is called for the nth time."""
    left = [times]

    def die(*_: Any) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def main(dsn: str, point: str) -> None:
    config = Config.from_dsn(dsn, poll_interval_seconds=0.05)
    maker = sessionmaker(create_engine(config.url))
    die = after(2)
    if point == POINTS[1]:
        event.listen(maker, "before_commit", die)
    if point == POINTS[2]:
        event.listen(maker, "after_commit", die)

    def handler(message: QueueMessage, session: Session) -> None:
        session.add(Order(id=message.id, name=str(os.getpid())))
        session.flush()
        if point == POINTS[0]:
            die()

    with Consumer(config, "q") as consumer:
        os.write(1, b"ready\n")
        consumer.run(handler, session=maker)


if __name__ == "__main__":
    main(*sys.argv[1:])
