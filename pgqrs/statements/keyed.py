"""What the policy of a queue adds to a lease: which messages are held back by others of their key.

A waiting message stands in the index of keys at its id, or at 0 where no other may wait beside it.
A lease moves it to minus its id, and there it stays: so what is leased, or was, is found without
a look at what waits.

Who leases must see what was leased before: of two leases at once the second would look with the
eyes of a time when the first was not there. Therefore each counts up its queue, from the count it
saw; where that is not the count any more, it leases nothing, and looks again.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    FromClause,
    Text,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)

from pgqrs.models import LEASED, Tables
from pgqrs.policy import QueuePolicy
from pgqrs.statements.planning import unestimated

__all__ = [
    "KEPT_OUT",
    "LEASED_OTHERWISE",
    "TAKES_TURNS",
    "held_back",
    "slot_of",
    "stands_at",
    "turn",
]

TAKES_TURNS: Final = frozenset({QueuePolicy.SINGLETON, QueuePolicy.STATELY, QueuePolicy.FIFO})
"""The policies under which a lease depends on other leases."""
LEASED_OTHERWISE: Final = TAKES_TURNS | {QueuePolicy.SHORT}
"""The policies under which the plain lease is not enough."""

KEPT_OUT: Final = frozenset({QueuePolicy.SHORT, QueuePolicy.STATELY, QueuePolicy.EXCLUSIVE})
"""The policies under which a message may keep another one out."""

_ZERO: ColumnElement[int] = literal_column("0")


def slot_of(
    policy: ColumnElement[Any],
    key: ColumnElement[Any],
    number: ColumnElement[int],
    *,
    leased: ColumnElement[bool] | None = None,
) -> ColumnElement[Any]:
    """Give where a waiting message stands in the index of keys, or null without a key.

    `number` is its id; `leased` says whether it ever was, if it may have been.
    """
    alone = policy == _text(QueuePolicy.EXCLUSIVE)
    apart = policy.in_([_text(each) for each in sorted(KEPT_OUT)])
    begun = [] if leased is None else [(leased, -number)]
    return case((key.is_(None), null()), (alone, _ZERO), *begun, (apart, _ZERO), else_=number)


def stands_at(
    t: Tables, queue: ColumnElement[int], key: ColumnElement[Any], *outer: FromClause
) -> ColumnElement[bool]:
    """Say that a message stands where no other of its key may."""
    m = t.messages.alias("standing")
    where = (m.c.queue_id == queue, m.c.key == key, m.c.key_slot == _ZERO)
    found = select(m.c.id).where(*where).limit(literal_column("1"))
    return found.correlate(*outer).scalar_subquery().is_not(None)


def turn(t: Tables, me: CTE) -> CTE:
    """Count the queue up; gives a row if nobody did since this statement began."""
    q = t.queues
    seen = select(me.c.lease_ct).scalar_subquery()
    may = select(me.c.may).scalar_subquery()
    is_queue = q.c.id == bindparam("queue", type_=BigInteger)
    counted = update(q).where(is_queue, q.c.lease_ct == seen, may)
    return counted.values(lease_ct=q.c.lease_ct + literal_column("1")).returning(q.c.id).cte("turn")


def held_back(t: Tables, policy: QueuePolicy) -> list[ColumnElement[bool]]:
    """Give what holds of a message that no other of its key holds back."""
    m = t.messages
    if policy is QueuePolicy.SHORT:
        return []
    begun = m.alias("begun")
    leased = (begun.c.state == LEASED) & (begun.c.vt > func.statement_timestamp())
    earlier = begun.c.id < m.c.id
    stands = {
        QueuePolicy.SINGLETON: leased,
        QueuePolicy.STATELY: or_(leased, earlier, m.c.key_slot >= _ZERO),
        QueuePolicy.FIFO: or_(leased, earlier),
    }[policy]
    before = [_none(t, begun, begun.c.key_slot < _ZERO, unestimated(stands))]
    if policy is QueuePolicy.FIFO:
        waits = m.alias("waits")
        slot = waits.c.key_slot
        before.append(_none(t, waits, slot > _ZERO, slot < m.c.id))
    return [unestimated(or_(m.c.key.is_(None), before[0] & before[-1]))]


def _none(t: Tables, other: FromClause, *where: Any) -> ColumnElement[bool]:
    # Not EXISTS, for which PostgreSQL may read all of the others at once.
    m = t.messages
    same = (other.c.queue_id == m.c.queue_id, other.c.key == m.c.key, other.c.id != m.c.id)
    rows = select(other.c.id).where(*same, *where).limit(literal_column("1"))
    return rows.correlate(m).scalar_subquery().is_(None)


def _text(policy: QueuePolicy) -> ColumnElement[str]:
    return literal_column(f"'{policy.value}'", Text)
