"""The course of the demo: enqueue, consume, kill a consumer midway, wait for its messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from pgqrs.admin import Admin
from pgqrs.call import call
from pgqrs.cli.demo import records
from pgqrs.cli.demo.crew import Crew, DemoFailedError
from pgqrs.cli.demo.display import Display
from pgqrs.cli.demo.scene import Pace, Scene
from pgqrs.cli.demo.verdict import Killed, Verdict, judge
from pgqrs.cli.render import counted
from pgqrs.producer import Producer
from pgqrs.types import QueueInfo

__all__ = ["VISIBILITY_SECONDS", "Stage"]

VISIBILITY_SECONDS: Final = 3
"""How long a lease lasts, and so how long a killed consumer's messages stay away."""

_ENQUEUED_AT_ONCE: Final = 500
_LEASED_AT_ONCE: Final = 8
_LOOK_EVERY_SECONDS: Final = 0.1
_STUCK_SECONDS: Final = 60

T = TypeVar("T")
A = TypeVar("A")


class Stage:
    """One performance, on a queue of its own."""

    def __init__(self, admin: Admin, queue: QueueInfo, display: Display) -> None:
        self._admin = admin
        self._queue = queue
        self._display = display
        self._progressed = time.monotonic()
        self._pace = Pace()
        self._archived = 0
        self._total = 0
        self._killed: Killed | None = None
        self._killed_at = 0.0
        self._away: set[int] = set()

    def play(self, files: Sequence[str], consumers: int) -> Verdict:
        """Have every file parsed by a consumer, one of which is killed; gives the outcome.

        Raises DemoFailedError where it cannot go on.
        """
        sent = self._enqueue(files)
        self._total = len(sent)
        with Crew(self._assignment(consumers)) as crew:
            crew.hire(consumers)
            self._display.tell(
                f"started {counted(consumers, 'consumer')}, each a process of its own"
            )
            self._watch(crew, self._is_time_to_strike)
            self._strike(crew)
            self._watch(crew, self._is_over)
        left = self._admin.queue_metrics(self._queue.queue_name).total_messages
        rows = self._ask(records.archived_files, self._queue.id)
        busy = self._ask(records.busy_seconds, self._queue.id)
        return judge(sent, rows, left, self._killed, busy)

    def _enqueue(self, files: Sequence[str]) -> list[tuple[int, str]]:
        started = time.monotonic()
        sent: list[tuple[int, str]] = []
        with Producer(self._admin, self._queue) as producer:
            for start in range(0, len(files), _ENQUEUED_AT_ONCE):
                paths = files[start : start + _ENQUEUED_AT_ONCE]
                messages = producer.batch_enqueue({"path": path} for path in paths)
                ids = [message.id for message in messages]
                sent += zip(ids, paths, strict=True)
        seconds = time.monotonic() - started
        self._display.tell(f"enqueued {counted(len(sent), 'source file')} in {seconds:.2f} s")
        return sent

    def _assignment(self, consumers: int) -> dict[str, Any]:
        config = self._admin.binding.config
        parts = {"dsn", "host", "port", "username", "password", "database"}
        settings = config.model_dump(mode="json", by_alias=True, exclude=parts)
        settings["dsn"] = config.url.render_as_string(hide_password=False)
        # Small batches, so that whoever is killed holds some messages and not all.
        batch = max(1, min(_LEASED_AT_ONCE, self._total // (4 * consumers)))
        return {"config": settings, "queue": self._queue.queue_name, "batch": batch}

    def _watch(self, crew: Crew, until: Callable[[Scene], bool]) -> None:
        while not until(self._look()):
            crew.check()
            if time.monotonic() - self._progressed > _STUCK_SECONDS:
                raise DemoFailedError(f"no message was finished for {_STUCK_SECONDS} seconds")
            # A short performance must not be over before its middle is seen.
            time.sleep(_LOOK_EVERY_SECONDS if self._killed or self._total > 500 else 0.02)

    def _look(self) -> Scene:
        metrics = self._admin.queue_metrics(self._queue.queue_name, exact=True)
        if metrics.archived > self._archived:
            self._archived, self._progressed = metrics.archived, time.monotonic()
        scene = Scene(
            total=self._total,
            pending=metrics.pending,
            leased=metrics.locked,
            archived=metrics.archived,
            rate=self._pace.rate(metrics.archived),
            consumers=self._ask(records.tallies, self._queue.id),
            killed=[self._killed.pid] if self._killed else [],
        )
        self._display.show(scene)
        return scene

    def _is_time_to_strike(self, scene: Scene) -> bool:
        return scene.archived >= self._total // 2 or (scene.leased > 0 and not scene.pending)

    def _strike(self, crew: Crew) -> None:
        while self._killed is None and not self._look().is_over:
            with crew.still():
                held = self._ask(records.leased_by, self._queue.id)
                if held:
                    worker_id = max(held, key=lambda worker: len(held[worker]))
                    tallies = self._ask(records.tallies, self._queue.id)
                    pid = next(tally.pid for tally in tallies if tally.worker_id == worker_id)
                    crew.kill(pid)
                    self._killed = Killed(pid, worker_id, held[worker_id])
        if self._killed is not None:
            crew.hire(1)
            self._killed_at = time.monotonic()
            self._away = set(self._killed.held)
            self._display.tell(
                f"killed consumer {self._killed.pid} with SIGKILL while it held"
                f" {counted(len(self._away), 'message')}; another one takes its place"
            )

    def _is_over(self, scene: Scene) -> bool:
        if self._killed is not None and self._away:
            self._look_for_returned(self._killed)
        return scene.is_over and not self._away

    def _look_for_returned(self, killed: Killed) -> None:
        counts = self._ask(records.read_counts, self._away)
        self._away = {key for key, count in counts.items() if count == killed.held[key]}
        if not self._away:
            seconds = time.monotonic() - self._killed_at
            self._display.tell(f"{seconds:.1f} s later its messages are back with other consumers")

    def _ask(self, question: Callable[[Connection, str, A], T], argument: A) -> T:
        binding = self._admin.binding
        return binding.run(call(question, binding.schema, argument))
