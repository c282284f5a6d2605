"""Acknowledging in one process what another leased: for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pgqrs.binding import Binding, bound
from pgqrs.call import Call, call
from pgqrs.closing import Closing
from pgqrs.config import Config
from pgqrs.operations import handover
from pgqrs.operations.handover import Deed, Lease
from pgqrs.types import Duration, QueueMessage, span

__all__ = ["Handover", "Lease", "lease_of"]


def lease_of(message: QueueMessage) -> Lease:
    """Give the lease that a message came with."""
    return Lease(message.id, message.consumer_worker_id, message.read_ct)


class Handover(Closing):
    """Acts on messages of one queue by leases that were told, or by ids.

    Each method gives for each message, in order, None or the sentence why it was not done. An id
    alone is enough where nobody holds the message or its holder has stopped; with `force` always.
    Every method raises QueueNotFoundError.
    """

    def __init__(self, bind: Any, queue: str, config: Config | None = None) -> None:
        self.binding: Binding = bound(bind, config)
        self.queue = queue

    def archive(self, leases: Sequence[Lease], *, force: bool = False) -> list[str | None]:
        """Finish them as completed; the archive keeps them."""
        return self._do(leases, handover.archiving(force=force))

    def delete(self, leases: Sequence[Lease], *, force: bool = False) -> list[str | None]:
        """Finish them without a trace."""
        return self._do(leases, handover.deleting(force=force))

    def release(self, leases: Sequence[Lease], *, force: bool = False) -> list[str | None]:
        """Make them due now; a lease that ends so costs no attempt."""
        return self._do(leases, handover.releasing(force=force))

    def extend(self, leases: Sequence[Lease], by: Duration) -> list[str | None]:
        """Push the ends of their leases out to `by` from now. Raises ValueError."""
        return self._do(leases, handover.extending(span(by)))

    def close(self) -> None:
        """Free what this object owns. Idempotent."""
        self.binding.close()

    def _do(self, leases: Sequence[Lease], deed: Deed) -> list[str | None]:
        step = call(handover.act, self.binding.schema, self.queue, list(leases), deed).step
        return self.binding.run(Call(step, changes=True))
