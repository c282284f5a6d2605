"""What the policy of a queue adds to a lease: which messages are held back by others of their key.

A waiting message stands in the index of keys at its id, or at 0 where no other may wait beside it.
A lease moves it to minus its id, and there it stays: so what is leased, or was, is found without
a look at what waits.

Who leases must see what was leased before: of two leases at once the second would look with the
eyes of a time when the first was not there. Therefore each counts up its queue, from the count it
saw; where that is not the count any more, or just changes, it leases nothing, and looks again.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    Text,
    any_,
    bindparam,
    case,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
    update,
)

from pgqrs.models import LEASED, READY, Tables
from pgqrs.policy import QueuePolicy
from pgqrs.statements.planning import unestimated

__all__ = [
    "LEASED_OTHERWISE",
    "TAKES_TURNS",
    "Line",
    "beyond",
    "free",
    "one_of_a_key",
    "slot_of",
    "stands_at",
    "turn",
    "window",
]

TAKES_TURNS: Final = frozenset({QueuePolicy.SINGLETON, QueuePolicy.STATELY, QueuePolicy.FIFO})
"""The policies under which a lease depends on other leases."""
LEASED_OTHERWISE: Final = TAKES_TURNS | {QueuePolicy.SHORT}
"""The policies under which the plain lease is not enough."""

_KEPT_OUT: Final = frozenset({QueuePolicy.SHORT, QueuePolicy.STATELY, QueuePolicy.EXCLUSIVE})
"""The policies under which a message may keep another one out."""

_ZERO: ColumnElement[int] = literal_column("0")
_ONE: ColumnElement[int] = literal_column("1")


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
    apart = policy.in_([_text(each) for each in sorted(_KEPT_OUT)])
    begun = [] if leased is None else [(leased, -number)]
    return case((key.is_(None), null()), (alone, _ZERO), *begun, (apart, _ZERO), else_=number)


def stands_at(
    t: Tables, queue: ColumnElement[int], key: ColumnElement[Any], *outer: FromClause
) -> ColumnElement[bool]:
    """Say that a message stands where no other of its key may."""
    m = t.messages.alias("standing")
    where = (m.c.queue_id == queue, m.c.key == key, m.c.key_slot == _ZERO)
    found = select(m.c.id).where(*where).limit(_ONE)
    return found.correlate(*outer).scalar_subquery().is_not(None)


def turn(t: Tables, me: CTE) -> CTE:
    """Count the queue up; gives a row if nobody did since this statement began, or just does."""
    q = t.queues
    seen = select(me.c.lease_ct).scalar_subquery()
    may = select(me.c.may).scalar_subquery()
    still = select(q.c.id).where(q.c.id == _queue(), q.c.lease_ct == seen, may)
    # Nobody is waited for: it may be a transaction of an application's, which takes its time.
    mine = still.with_for_update(skip_locked=True, key_share=True).cte("mine")
    counted = update(q).where(q.c.id == select(mine.c.id).scalar_subquery())
    return counted.values(lease_ct=q.c.lease_ct + literal_column("1")).returning(q.c.id).cte("turn")


def free(t: Tables, policy: QueuePolicy) -> ColumnElement[bool]:
    """Say that no other message of its key holds a message back."""
    m = t.messages
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
    return unestimated(or_(m.c.key.is_(None), before[0] & before[-1]))


def window(t: Tables) -> CTE:
    """Give the first of the ready line: few, since most of them may be held back."""
    return _line(t, select(_reach())).cte("window")


def beyond(t: Tables, policy: QueuePolicy) -> CTE:
    """Give what may be leased wherever it stands: the first of each key, and of those without one.

    Key by key through their index, so that those behind the first of a key cost nothing.
    """
    m, waits = t.messages, t.messages.alias("waits")
    each = _keys(t)
    rows = select(waits.c.id).where(waits.c.queue_id == _queue(), waits.c.key == each.c.key)
    if policy is QueuePolicy.SINGLETON:  # else the first holds back the others, due or not
        rows = rows.where(unestimated(waits.c.state == READY))
    rows = rows.correlate(each).limit(_ONE)
    first = rows.where(waits.c.key_slot >= _ZERO).order_by(waits.c.key_slot)
    again = rows.where(waits.c.key_slot < _ZERO).order_by(waits.c.key_slot.desc())
    heads = union_all(first, again).lateral("head")
    one = select(_number())
    keyless = _line(t, one, unestimated(m.c.key.is_(None))).subquery("keyless")
    found = select(heads.c.id).select_from(each.join(heads, true()))
    return union_all(found, select(keyless.c.id)).cte("beyond")


def _line(t: Tables, most: Select[Any], *where: ColumnElement[bool]) -> Select[Any]:
    m = t.messages
    ready = select(m.c.id).where(m.c.queue_id == _queue(), m.c.state == READY, *where)
    return ready.order_by(m.c.priority.desc(), m.c.id).limit(most.scalar_subquery())


def _keys(t: Tables) -> CTE:
    """Give the keys of a queue, each by a look at the index behind the one before."""
    m, after = t.messages, t.messages.alias("after")
    here = select(m.c.key).where(m.c.queue_id == _queue(), m.c.key.is_not(None))
    first = select(here.order_by(m.c.key).limit(_ONE).scalar_subquery().label("key"))
    walk = first.cte("keys", recursive=True)
    next_ = select(after.c.key).where(after.c.queue_id == _queue(), after.c.key > walk.c.key)
    one = next_.order_by(after.c.key).limit(_ONE).correlate(walk).scalar_subquery()
    return walk.union_all(select(one).where(walk.c.key.is_not(None)))


class Line(NamedTuple):
    """Where to look for ready messages that no other of their key holds back."""

    policy: QueuePolicy
    window: CTE
    beyond: CTE | None

    def first(self, t: Tables, most: ScalarSelect[int]) -> Select[Any]:
        """Give the best of the ready that may be leased, one of a key."""
        every = [self.window] if self.beyond is None else [self.window, self.beyond]
        ids = union_all(*(select(each.c.id) for each in every))
        return one_of_a_key(t, self.policy, ids, most, unestimated(t.messages.c.state == READY))

    def goes_on(self) -> ColumnElement[bool]:
        """Say that there may be more than the window has."""
        return select(func.count()).select_from(self.window).scalar_subquery() >= _reach()


def one_of_a_key(
    t: Tables,
    policy: QueuePolicy,
    ids: Any,
    most: ScalarSelect[int],
    *where: ColumnElement[bool],
) -> Select[Any]:
    """Choose the best of the messages `ids` that no other of its key holds back."""
    m = t.messages
    order = (m.c.priority.desc(), m.c.id)
    place = func.row_number().over(partition_by=m.c.key, order_by=order)
    rows = select(m.c.id, m.c.priority, m.c.key, place.label("place"))
    found = rows.where(
        m.c.id == any_(func.array(ids.scalar_subquery())), *where, free(t, policy)
    ).subquery("found")
    one = found.c.key.is_(None) | (found.c.place == _ONE)
    best = select(found.c.id).where(one).order_by(found.c.priority.desc(), found.c.id)
    return best.limit(most)


def _none(t: Tables, other: FromClause, *where: Any) -> ColumnElement[bool]:
    # Not EXISTS, for which PostgreSQL may read all of the others at once.
    m = t.messages
    same = (other.c.queue_id == m.c.queue_id, other.c.key == m.c.key, other.c.id != m.c.id)
    rows = select(other.c.id).where(*same, *where).limit(_ONE)
    return rows.correlate(m).scalar_subquery().is_(None)


def _text(policy: QueuePolicy) -> ColumnElement[str]:
    return literal_column(f"'{policy.value}'", Text)


def _reach() -> ColumnElement[int]:
    return _number() * literal_column("4") + literal_column("16")


def _number() -> ColumnElement[int]:
    return bindparam("n", type_=BigInteger)


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)
