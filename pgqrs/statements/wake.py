"""LISTEN and NOTIFY: one channel a queue, named by a hash so that any queue's name fits."""

from __future__ import annotations

from functools import cache
from hashlib import blake2s

from sqlalchemy import Executable, Text, bindparam, func, select, text

__all__ = ["backend_pid", "channel_of", "listen", "listening_to", "notify", "unlisten"]


@cache
def channel_of(schema: str, queue: str) -> str:
    """Give the channel of a queue: an identifier of 39 characters."""
    name = f"{schema}.{queue}".encode(errors="replace")  # no such queue, and that is said later
    return "pgqrs_" + blake2s(name, digest_size=16).hexdigest()


def listen(channel: str) -> Executable:
    """Listen on a channel that `channel_of` gave."""
    return text(f'LISTEN "{channel}"')


def unlisten(channel: str) -> Executable:
    """Listen on a channel no more."""
    return text(f'UNLISTEN "{channel}"')


@cache
def listening_to() -> Executable:
    """Give the channels that this connection listens on, as the server knows them."""
    return select(func.pg_listening_channels())


@cache
def backend_pid() -> Executable:
    """Give the process that serves this connection: behind a pooler not the one it was told."""
    return select(func.pg_backend_pid())


@cache
def notify() -> Executable:
    """Wake whoever listens on `channel`, with `message` (which may be empty)."""
    return select(
        func.pg_notify(bindparam("channel", type_=Text), bindparam("message", type_=Text))
    )
