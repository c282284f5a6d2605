"""What a role of the server may be allowed to do with queues, as a whole."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Access"]


class Access(StrEnum):
    """What a role may do, for `Admin.grant`; a role may have several."""

    PRODUCER = "producer"
    """Add messages, and put off its own."""
    CONSUMER = "consumer"
    """Lease and acknowledge messages, and maintain the tables as a running worker does."""
    ADMIN = "admin"
    """Everything but installing, upgrading and removing the tables."""
    READONLY = "readonly"
    """Look at everything, payloads too, and change nothing."""
