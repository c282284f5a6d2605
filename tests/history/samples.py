"""Looks at the tables ten times a second while clients work, and judges what it saw.

Each look is one query, so one snapshot: what it shows was so at one instant.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from resource import getpagesize
from typing import NamedTuple, Self

import psycopg

PAUSE = 0.1
# A dead letter that came back was leased before, under another id.
LOOK = """
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
  ARRAY(SELECT id FROM pgqrs.pgqrs_messages JOIN pgqrs.pgqrs_archive USING (queue_id, id)),
  ARRAY(
    SELECT q.policy || ' ' || m.key FROM (
      SELECT *, headers->'pgqrs'->'replay_of' IS NOT NULL AS came_back FROM pgqrs.pgqrs_messages
    ) m JOIN pgqrs.pgqrs_queues q ON q.id = m.queue_id
    WHERE m.key IS NOT NULL AND q.policy IS NOT NULL
    GROUP BY q.id, m.key HAVING CASE q.policy
      WHEN 'exclusive' THEN count(*)
      WHEN 'short' THEN count(*) FILTER (WHERE m.read_ct = 0 AND NOT m.came_back)
      WHEN 'stately' THEN greatest(
        count(*) FILTER (WHERE m.read_ct = 0 AND NOT m.came_back),
        count(*) FILTER (WHERE m.state = 2 AND m.vt > clock_timestamp()))
      ELSE count(*) FILTER (WHERE m.state = 2 AND m.vt > clock_timestamp()) END > 1),
  (SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'pgqrs')
"""


class Sample(NamedTuple):
    """What was so at one instant of the server.

    `twice` are messages that are in their queue and in the archive, `crowded` keys of which more
    wait or are leased than their queue's policy allows, `connections` those of pgqrs to this
    database, `memory` the resident bytes of each client by its process id (where /proc tells).
    """

    at: int
    twice: list[int]
    crowded: list[str]
    connections: int
    memory: dict[int, int]


class Sampler:
    """Takes samples in a thread of its own, while a `with` block lasts.

    Where the server is away it looks again until it is back; `pids` gives whose memory counts.
    """

    def __init__(self, dsn: str, pids: Callable[[], Iterable[int]] = tuple) -> None:
        self._dsn, self._pids = dsn, pids
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on)
        self.samples: list[Sample] = []
        self.failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _look_on(self) -> None:
        try:
            while not self._ended.is_set():
                try:
                    with psycopg.connect(self._dsn, autocommit=True) as connection:
                        self._watch(connection)
                except psycopg.OperationalError:
                    self._ended.wait(PAUSE)
        except BaseException as error:  # noqa: BLE001 - raised where the block is left
            self.failure = error

    def _watch(self, connection: psycopg.Connection) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0, due - time.monotonic())):
            due = max(due + PAUSE, time.monotonic())
            found = connection.execute(LOOK).fetchone()
            if found is not None:
                self.samples.append(Sample(*found, memory_of(self._pids())))


def memory_of(pids: Iterable[int]) -> dict[int, int]:
    """Give the resident bytes of processes that are there."""
    sizes = {}
    for pid in pids:
        try:
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            continue
        sizes[pid] = int(pages) * getpagesize()
    return sizes


def sample_faults(
    samples: Iterable[Sample], *, connections: int | None = None, memory: int | None = None
) -> list[str]:
    """Say in words what no sample may show; the bounds are a number, and bytes of each process."""
    faults = []
    for sample in samples:
        if sample.twice:
            faults.append(f"in the queue and in the archive: {sample}")
        if sample.crowded:
            faults.append(f"more of a key than the policy allows: {sample}")
        if connections is not None and sample.connections > connections:
            faults.append(f"too many connections: {sample}")
        if memory is not None and max(sample.memory.values(), default=0) > memory:
            faults.append(f"too much memory: {sample}")
    return faults
