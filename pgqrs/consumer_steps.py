"""What a consumer does on a connection it is given, for the sync and asyncio classes alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from pgqrs.errors import LeaseLostError
from pgqrs.ledger import Ledger
from pgqrs.operations import acknowledge
from pgqrs.operations import lease as leasing
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import Lease, Terms
from pgqrs.payload import Json, encode
from pgqrs.registration import Registration
from pgqrs.types import ArchivedMessage, Duration, QueueMessage, WorkerRole, span
from pgqrs.worker import WorkerSteps

__all__ = ["ConsumerSteps", "Held"]

Held = QueueMessage | int
"""A leased message, or the id of one that this very consumer leased."""


class ConsumerSteps(WorkerSteps):
    """What a consumer does; its ledger says what it may acknowledge by id."""

    role = WorkerRole.CONSUMER

    def __init__(
        self, registration: Registration, *, joined: bool = False, lodges: bool = False
    ) -> None:
        super().__init__(registration, joined=joined, lodges=lodges)
        self.ledger = Ledger()

    def terms(self, size: int, vt: Duration | None) -> Terms:
        """Check what a lease asks for, before any connection is taken. Raises ValueError."""
        if size < 1:
            raise ValueError(f"a batch has at least 1 message, not {size}")
        return Terms(
            size=min(size, self.config.max_batch_size),
            timeout=None if vt is None else span(vt),
            default_timeout=dt.timedelta(seconds=self.config.default_lock_time_seconds),
            default_attempts=self.config.max_attempts,
        )

    def lease(self, connection: Connection, terms: Terms) -> list[QueueMessage]:
        """Lease due messages and enter them in the ledger."""
        lease = self._lease(connection, terms)
        if lease.worker_status is None or lease.queue_paused is None:
            # The queue was deleted (and perhaps made again): start anew, or say that it is gone.
            self.registration.forget()
            lease = self._lease(connection, terms)
        self.ledger.add(lease.messages)
        self.beat_if_due(connection)
        return lease.messages

    def fence(self, held: Held) -> Fence:
        """Give the fence of what is held. Raises LeaseLostError where it was not leased here."""
        if isinstance(held, int):
            return self.ledger.fence(held)
        mine = self.registration.worker_id
        if mine is None or held.consumer_worker_id != mine:
            raise LeaseLostError(held.id, "another worker leased it")
        return Fence(held.id, held.read_ct)

    def fences(self, many: Iterable[Held]) -> list[Fence | None]:
        """Give the fences of many; None for what was not leased here, and for repetitions."""
        fences: list[Fence | None] = []
        for held in many:
            try:
                fence = self.fence(held)
            except LeaseLostError:
                fences.append(None)
            else:
                fences.append(None if fence in fences else fence)
        return fences

    def output(self, value: Any) -> str | None:
        """Give a result's JSON text. Raises PayloadError."""
        if value is None:
            return None
        return encode(Json(value) if isinstance(value, str) else value)

    def archive(
        self, connection: Connection, fence: Fence, status: str, output: str | None
    ) -> ArchivedMessage:
        """Archive one. Raises LeaseLostError."""
        again = self.ledger.sending([fence])
        worker_id = self._mine()
        found = acknowledge.archive(connection, self.schema, worker_id, fence, status, output)
        if found is None and again:
            earlier = acknowledge.find_archived(connection, self.schema, worker_id, [fence])
            found = earlier.get(fence.message_id)
        self._answered([fence])
        if found is None:
            raise LeaseLostError(fence.message_id)
        return found

    def archive_many(self, connection: Connection, fences: Sequence[Fence | None]) -> list[bool]:
        """Archive as completed; says for each whether it was held."""

        def earlier(again: list[Fence]) -> set[int]:
            return set(acknowledge.find_archived(connection, self.schema, self._mine(), again))

        return self._many(connection, fences, acknowledge.archive_many, earlier)

    def delete(self, connection: Connection, fence: Fence) -> None:
        """Delete one. Raises LeaseLostError."""
        if not self.delete_many(connection, [fence])[0]:
            raise LeaseLostError(fence.message_id)

    def delete_many(self, connection: Connection, fences: Sequence[Fence | None]) -> list[bool]:
        """Delete; says for each whether it was held."""

        def earlier(again: list[Fence]) -> set[int]:
            left = acknowledge.exist(connection, self.schema, again)
            return {fence.message_id for fence in again} - left

        return self._many(connection, fences, acknowledge.delete_many, earlier)

    def extend(self, connection: Connection, fence: Fence, by: dt.timedelta) -> QueueMessage:
        """Extend one lease. Raises LeaseLostError."""
        message = acknowledge.extend(connection, self.schema, self._mine(), fence, by)
        if message is None:
            raise LeaseLostError(fence.message_id, "it ran out, or the message is finished")
        self.ledger.add([message])
        return message

    def release(
        self, connection: Connection, fences: Sequence[Fence | None], delay: dt.timedelta
    ) -> list[bool]:
        """Give leases back; says for each whether it was held."""

        def give_back(
            connection: Connection, schema: str, worker_id: int, held: Sequence[Fence]
        ) -> set[int]:
            return acknowledge.release(connection, schema, worker_id, held, delay)

        def earlier(again: list[Fence]) -> set[int]:
            return {fence.message_id for fence in again}

        return self._many(connection, fences, give_back, earlier)

    def release_one(self, connection: Connection, fence: Fence, delay: dt.timedelta) -> None:
        """Give one lease back. Raises LeaseLostError."""
        if not self.release(connection, [fence], delay)[0]:
            raise LeaseLostError(fence.message_id)

    def _lease(self, connection: Connection, terms: Terms) -> Lease:
        queue_id, worker_id = self._registered(connection)
        return leasing.lease(connection, self.schema, queue_id, worker_id, terms)

    def _registered(self, connection: Connection) -> tuple[int, int]:
        known = self.registration.queue_id, self.registration.worker_id
        if known[0] is not None and known[1] is not None:
            return known[0], known[1]
        return self.register(connection)

    def _mine(self) -> int:
        return self.registration.worker_id or -1

    def _many(
        self,
        connection: Connection,
        fences: Sequence[Fence | None],
        send: Callable[[Connection, str, int, Sequence[Fence]], set[int]],
        earlier: Callable[[list[Fence]], set[int]],
    ) -> list[bool]:
        held = [fence for fence in fences if fence is not None]
        if not held:
            return [False] * len(fences)
        again = self.ledger.sending(held)
        done = send(connection, self.schema, self._mine(), held)
        unanswered = [fence for fence in again if fence.message_id not in done]
        if unanswered:  # sent before, and the reply was lost: were they done then?
            done |= earlier(unanswered)
        self._answered(held)
        return [fence is not None and fence.message_id in done for fence in fences]

    def _answered(self, fences: Sequence[Fence]) -> None:
        self.ledger.answered(fences)
        if not self.joined:  # what is joined may still be rolled back
            self.ledger.drop(fence.message_id for fence in fences)
