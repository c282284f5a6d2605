"""What memory pgqrs takes: an idle worker, and a long iterator enqueued and drained."""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

import pgqrs
from benchmarks.contenders.answering import BODY, Figure, Watch, answer
from benchmarks.contenders.resident import forget_peak, peak, resident


def idle(config: pgqrs.Config, watch: Watch) -> None:
    """Run without messages, and say what is in memory after a while."""

    def look() -> None:
        watch.extra["resident"] = resident()
        watch.extra["modules"] = sorted(set(sys.modules) - {"__main__"})
        consumer.stop()

    with pgqrs.Consumer(config, "bench") as consumer:
        timer = threading.Timer(watch.asked["seconds"], look)
        timer.start()
        consumer.run(unneeded)
        timer.join()


def unneeded(message: Any) -> None:
    """Refuse to handle a message where there should be none."""
    raise AssertionError(message)


def stream(config: pgqrs.Config, watch: Watch, n: int) -> None:
    """Enqueue from an iterator, drain by 100, and say how much memory grew to."""
    with pgqrs.Producer(config, "bench") as producer, pgqrs.Consumer(config, "bench") as consumer:
        producer.batch_enqueue((BODY for _ in range(1000)), atomic=False)
        assert drained(consumer) == 1000  # so that all is imported and connected
        before = fresh()
        assert producer.batch_enqueue((BODY for _ in range(n)), atomic=False) == n
        watch.extra["enqueued"] = peak() - before
        before = fresh()
        assert drained(consumer) == n
        watch.extra["drained"] = peak() - before


def fresh() -> int:
    """Begin a new peak; gives what is in memory now."""
    gc.collect()
    forget_peak()
    return resident()


def drained(consumer: pgqrs.Consumer) -> int:
    """Drain by 100; gives how many."""
    done = 0
    while messages := consumer.dequeue_batch(100):
        for message in messages:
            _ = message.payload
        done += sum(consumer.archive_batch(messages))
    return done


def main(dsn: str) -> None:
    """Answer in a process in which nothing else happened."""
    config = pgqrs.Config.from_dsn(dsn)
    figures: dict[str, Figure] = {
        "idle": lambda watch, _: idle(config, watch),
        "stream": lambda watch, n: stream(config, watch, n),
    }
    answer(figures, lambda: None)


if __name__ == "__main__":
    main(sys.argv[1])
