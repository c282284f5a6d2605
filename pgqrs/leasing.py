"""Lease for one consumer: under which terms, from where on, and as which worker."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection

from pgqrs.floor import Floor
from pgqrs.operations import lease as operations
from pgqrs.operations import settle
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import Burial, Lease, Terms, in_order
from pgqrs.operations.settle import Finish
from pgqrs.policy import QueuePolicy
from pgqrs.types import Duration, span
from pgqrs.worker import WorkerSteps

__all__ = ["Leaser"]

_REST: Final = 9
"""How many times longer than a look in vain behind the first of a line the pause after it is."""
_SPARED: Final = 1.0
"""Seconds for which nothing is buried after somebody else had all of it in hand."""


class Leaser:
    """Leases as the worker of `steps`; in the caller's transaction it always looks everywhere."""

    def __init__(self, steps: WorkerSteps) -> None:
        self.floor = Floor()
        self._wide_from = 0.0  # when to look again behind the first of a line
        self._to_bury: Burial | None = None
        self._bury_from = 0.0  # when to bury again
        self._steps = steps
        self._usual = Terms(
            size=1,
            timeout=None,
            default_timeout=dt.timedelta(seconds=steps.config.default_lock_time_seconds),
            default_attempts=steps.config.max_attempts,
        )

    def terms(self, size: int, vt: Duration | None) -> Terms:
        """Give the terms of a lease of up to `size` messages. Raises ValueError."""
        if size < 1:
            raise ValueError(f"a batch has at least 1 message, not {size}")
        if size == 1 and vt is None:
            return self._usual
        size = min(size, self._steps.config.max_batch_size)
        return self._usual._replace(size=size, timeout=None if vt is None else span(vt))

    def lease(self, connection: Connection, terms: Terms) -> Lease:
        """Lease, registering if need be. Raises QueueNotFoundError.

        What a lease finds to bury waits for the next one where it found messages too: they are
        leased, and nothing that fails or takes its time may come between them and their holder.
        """
        self._bury(connection, terms)
        lease = self._lease(connection, terms)
        if lease.worker_status is None or lease.queue_paused is None:
            # The queue was deleted (and perhaps made again): start anew, or say that it is gone.
            self._steps.registration.forget()
            lease = self._lease(connection, terms)
        if not lease.messages:
            self._bury(connection, terms)
        return lease

    def finish_and_lease(
        self, connection: Connection, finishes: Sequence[Finish], terms: Terms
    ) -> tuple[set[Fence], Lease]:
        """Finish and lease in one statement, or two; gives the fences that held, and the lease."""
        self._bury(connection, terms)
        holder = self._steps.register(connection)
        if not operations.is_plain(self._steps.registration.policy):
            # What is finished holds others back until it is gone.
            done = settle.finish_many(connection, self._steps.schema, holder[1], finishes)
            return done, self.lease(connection, terms)
        bounded = self._bounded(terms)
        held, lease = settle.finish_and_lease(
            connection, self._steps.schema, holder, finishes, bounded
        )
        lease = self._noted(connection, lease, bounded)
        if lease.worker_status is None or lease.queue_paused is None:
            lease = self.lease(connection, terms)
        return held, lease

    def _lease(self, connection: Connection, terms: Terms) -> Lease:
        bounded = self._bounded(terms)
        return self._noted(connection, self._once(connection, bounded), bounded)

    def _once(self, connection: Connection, terms: Terms) -> Lease:
        holder, policy = self._steps.register(connection), self._steps.registration.policy
        if policy is QueuePolicy.SHORT:
            everywhere = terms._replace(bounds=None)
            return operations.lease_first(connection, self._steps.schema, holder, everywhere)
        if not operations.is_plain(policy):
            return self._in_turn(connection, terms._replace(bounds=None), holder, policy)
        return operations.lease(connection, self._steps.schema, *holder, terms)

    def _in_turn(
        self, connection: Connection, terms: Terms, holder: tuple[int, int], policy: QueuePolicy
    ) -> Lease:
        """Lease among the first, and what is missing wherever it stands, if that is quick."""
        turn = partial(operations.lease_in_turn, connection, self._steps.schema, holder)
        lease, goes_on = turn(terms, policy, wide=False)
        missing = terms.size - len(lease.messages)
        if not (missing and goes_on and time.monotonic() >= self._wide_from):
            return lease

        def widely() -> Lease:
            began = time.monotonic()
            more, _ = turn(terms._replace(size=missing), policy, wide=True)
            now = time.monotonic()
            self._wide_from = now if more.messages else now + _REST * (now - began)
            return more

        return _with(lease, widely)

    def _bounded(self, terms: Terms) -> Terms:
        bounds = None if self._steps.joined else self.floor.bounds()
        return terms if bounds is None else terms._replace(bounds=bounds)

    def _noted(self, connection: Connection, lease: Lease, terms: Terms) -> Lease:
        self.floor.found(lease.messages, terms.size, lease.looked_for)
        missing, bounds = terms.size - len(lease.messages), terms.bounds
        if bounds is not None and missing:
            everywhere = terms._replace(size=missing, bounds=None)
            lease = _with(lease, lambda: self._once(connection, everywhere))
            bounds = None
        if lease.bury_upto is not None:
            self._to_bury = Burial(lease.bury_upto, None if bounds is None else bounds.since)
        return lease

    def _bury(self, connection: Connection, terms: Terms) -> None:
        """Bury what the last lease found."""
        burial, self._to_bury = self._to_bury, None
        if burial is None or time.monotonic() < self._bury_from:
            return
        queue_id, _ = self._steps.register(connection)
        schema, attempts = self._steps.schema, terms.default_attempts
        if not operations.bury(connection, schema, queue_id, attempts, burial):
            self._bury_from = time.monotonic() + _SPARED


def _with(lease: Lease, again: Callable[[], Lease]) -> Lease:
    """Give what was leased with what another look finds."""
    try:
        more = again()
    except Exception:
        if lease.messages:  # which are leased; the next call meets what is wrong
            return lease
        raise
    return more._replace(messages=in_order(lease.messages + more.messages))
