"""The server itself: its clock, its notifications, and who keeps it from cleaning up."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from sqlalchemy import Connection

from pgqrs.doctor.check import Terms, error, note, warning
from pgqrs.statements import diagnosis as sql
from pgqrs.types import Finding

__all__ = ["of_clock", "of_horizon", "of_notifications"]


def of_clock(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Compare the clocks; the server's is between what this one said before and after."""
    before = terms.clock()
    there = connection.scalar(sql.clock())
    after = terms.clock()
    ahead = max(before - there, there - after)
    if ahead > terms.skew:
        yield warning(
            f"the clocks of this machine and the server are {_long(ahead)} apart: pgqrs goes by the"
            " server's, but logs of both will not fit together",
            "synchronize both with NTP (timedatectl set-ntp true)",
        )


def of_notifications(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Look how full the queue of notifications is; when it is full, no commit that notifies works.

    It fills while a session that listens stays in one transaction.
    """
    used = float(connection.scalar(sql.notifications()) or 0)
    if used >= terms.notifications:
        tell = error if used >= 0.5 else warning
        yield tell(
            f"the server's queue of notifications is {used:.0%} full: a session that listens on"
            " something stays in a transaction",
            "end it: SELECT pid, usename, xact_start, query FROM pg_stat_activity WHERE state"
            " LIKE 'idle in transaction%' ORDER BY xact_start, then pg_terminate_backend(pid)",
        )


def of_horizon(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say who holds the oldest snapshots: what finished since is dead, and cannot be cleaned."""
    for kind, key, who, held, age in connection.execute(sql.horizon()):
        old = age is not None and age >= terms.transactions
        if not old and (held is None or held < terms.held_for):
            continue
        tell = error if held is not None and held >= terms.held_too_long else warning
        since = "" if held is None else f" since {_long(held)}"
        what = _HOLDERS[kind].format(key=key, who=who)
        consequence = "rows that finished since cannot be cleaned, and leases become slow"
        yield tell(
            f"{what} holds a snapshot{since} ({age:,} transactions): {consequence}",
            _END[kind].format(key=key),
        )
    role, hidden = connection.execute(sql.unseen()).one()
    if hidden:
        yield note(
            f"role {role} may not see the transactions of {hidden:,} sessions of other roles here:"
            " whether they hold a snapshot is not known",
            f'GRANT pg_read_all_stats TO "{role}"',
        )


_HOLDERS = {
    "session": "session {key} ({who})",
    "prepared": "prepared transaction {key!r} of {who}",
    "slot": "replication slot {key} ({who})",
}
_END = {
    "session": "end it if it is not wanted: SELECT pg_terminate_backend({key})",
    "prepared": "COMMIT PREPARED '{key}' or ROLLBACK PREPARED '{key}'",
    "slot": "if nobody reads it: SELECT pg_drop_replication_slot('{key}')",
}


def _long(span: dt.timedelta) -> str:
    return (
        f"{span.total_seconds():,.0f} s"
        if span < dt.timedelta(hours=1)
        else str(span).partition(".")[0]
    )
