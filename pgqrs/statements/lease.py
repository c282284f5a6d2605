"""Take due messages: the whole dequeue as one statement.

Three arms (ready, due delayed, expired) each take rows that nobody else is taking, in the order of
their index; the best n of them by priority and id are leased. What is due but not among the best
joins the ready line, and expired messages without an attempt left are told of, for `bury`: so
neither stays at the head of its index, where it would hide better ones behind it.
The worker's status and the queue's pause are read here, so they act at once; they come back with
the rows, or alone where there is nothing to lease.

`LIMIT (SELECT n)`: a plain bound LIMIT makes PostgreSQL plan the statement anew on each call, and a
literal one above the number of rows it expects has it read and sort them all.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Executable,
    Integer,
    Interval,
    ScalarSelect,
    Select,
    SmallInteger,
    Text,
    any_,
    bindparam,
    case,
    except_,
    func,
    literal_column,
    select,
    true,
    union_all,
    update,
)

from pgqrs.models import DELAYED, LEASED, READY, Tables, tables
from pgqrs.policy import QueuePolicy
from pgqrs.statements.bury import exhausted
from pgqrs.statements.columns import MESSAGE, as_sent
from pgqrs.statements.keyed import Line, beyond, one_of_a_key, turn, window
from pgqrs.statements.options import option, seconds
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = [
    "PROMOTED_AT_ONCE",
    "lease",
    "lease_above",
    "lease_first",
    "lease_in_turn",
    "leasing",
]

PROMOTED_AT_ONCE = 100
"""The most delayed, and the most expired, messages one lease puts into the ready line."""


@per_schema
def lease(t: Tables) -> Executable:
    """Lease up to `n` messages of `queue` for `worker`.

    Parameters: queue, worker, n, timeout (or null), default_timeout, default_attempts.
    A row is (worker status, queue paused, an instant, a time, the columns of a message). Up to the
    instant there is something to bury; it is null where there is not. The time is how long the
    looking took, or null where more may be due than was looked at; where nothing is leased it is in
    how long the next message is due, and then there are nulls for the message.
    """
    statement: Executable = leasing(t)
    return statement


@per_schema
def lease_above(t: Tables) -> Executable:
    """Lease as `lease` does: of the ready from the id `floor` on, of the others from `since` on.

    Bounds that are tested inside an index, without a look at the rows, of which thousands may be
    dead. The floor is that of one priority, the `rank`, so nothing lower is leased. Were the
    priority to be equal, PostgreSQL might walk the primary key instead.
    """
    statement: Executable = leasing(t, bounded=True)
    return statement


@per_schema
def lease_first(t: Tables) -> Executable:
    """Lease as `lease` does in a queue of policy short: a lease makes room for the next to wait."""
    statement: Executable = leasing(t, policy=QueuePolicy.SHORT)
    return statement


@cache
def lease_in_turn(schema: str, policy: QueuePolicy, *, wide: bool) -> Executable:
    """Lease as `lease` does in a queue of one of the policies TAKES_TURNS.

    Of the ready only among the first of the line, or, where `wide`, wherever they stand. Each row
    ends with whether somebody else leased meanwhile (then nothing is leased, and the same statement
    may find something), and whether the line goes on behind what was looked at.
    """
    t = tables(schema)
    me = _me(t)
    mine = turn(t, me)
    lost = select(func.count() == literal_column("0")).select_from(mine).scalar_subquery()
    line = Line(policy, window(t), beyond(t, policy) if wide else None)
    more = (me.c.may & lost, line.goes_on())
    turns: Executable = leasing(t, *more, line=line, who=(me, ~lost))
    return turns


def leasing(
    t: Tables,
    *more: ColumnElement[Any],
    spares: Select[Any] | None = None,
    after: CTE | None = None,
    bounded: bool = False,
    policy: QueuePolicy = QueuePolicy.STANDARD,
    line: Line | None = None,
    who: tuple[CTE, ColumnElement[bool]] | None = None,
) -> Any:
    """Build a lease whose rows have `more` columns at their end.

    `spares` gives ids that are left alone: the same statement does something else with them. It has
    done `after` before the lease locks anything. `line` says where to look for ready ones, and
    which may be leased; `who` leases, and whether it may: without it, that is looked up.
    """
    me, may = who or _anybody(t, after)
    others = [] if spares is None else [unestimated(t.messages.c.id.not_in(spares))]
    arms = _arms(t, me, [may, *others], bounded=bounded, line=line)
    best = _best(t, arms, line, bounded=bounded)
    moves = line is not None or policy is QueuePolicy.SHORT
    leased = _leased(t, me, best, moves=moves)
    looked = leased.c.dequeued_at - func.statement_timestamp()
    time = case((leased.c.id.is_(None), _next_due(t)), (~_more_is_late(arms, line), looked))
    since = _since(t) if bounded else []
    spent = _spent(t, me, arms[-1], [may, *others, *since])
    rows = select(me.c.status, me.c.paused, spent, time, *leased.c, *more)
    rows = rows.select_from(me.outerjoin(leased, true()))
    return rows.add_cte(_promoted(t, arms[1:], best))


def _anybody(t: Tables, after: CTE | None) -> tuple[CTE, ColumnElement[bool]]:
    me = _me(t, after)
    return me, select(me.c.may).scalar_subquery()


def _best(t: Tables, arms: list[CTE], line: Line | None, *, bounded: bool) -> CTE:
    if line is not None:
        ids = union_all(*(select(arm.c.id) for arm in arms))
        return one_of_a_key(t, line.policy, ids, _n()).cte("best")
    due = union_all(*(select(arm.c.id, arm.c.priority) for arm in arms)).subquery("due")
    best = select(due.c.id).order_by(due.c.priority.desc(), due.c.id).limit(_n())
    return (best.where(due.c.priority >= _rank()) if bounded else best).cte("best")


def _leased(t: Tables, me: CTE, best: CTE, *, moves: bool) -> CTE:
    m = t.messages
    moved = {"key_slot": -m.c.id} if moves else {}
    expire_in = option(m, "expire_in", Double)
    usual = select(me.c.visibility_timeout).scalar_subquery()
    return (
        update(m)
        .where(_is_in(m.c.id, select(best.c.id)))
        .values(
            state=LEASED,
            vt=func.clock_timestamp() + func.coalesce(seconds(expire_in), usual),
            read_ct=m.c.read_ct + literal_column("1"),
            dequeued_at=func.clock_timestamp(),
            consumer_worker_id=bindparam("worker", type_=BigInteger),
            **moved,
        )
        .returning(*as_sent(m, MESSAGE))
        .cte("leased")
    )


def _next_due(t: Tables) -> ColumnElement[Any]:
    m = t.messages
    heads = [
        select(m.c.vt)
        .where(m.c.queue_id == _queue_id(), m.c.state == state)
        .order_by(m.c.vt)
        .limit(literal_column("1"))
        .scalar_subquery()
        for state in (DELAYED, LEASED)
    ]
    return func.least(*heads) - func.clock_timestamp()


def _me(t: Tables, after: CTE | None = None) -> CTE:
    one = select(literal_column("1")).subquery("one")
    w, q = t.workers, t.queues
    may = (w.c.status == literal_column("'ready'", Text)) & ~q.c.paused
    if after is not None:  # a count needs all of it
        may &= select(func.count() >= literal_column("0")).select_from(after).scalar_subquery()
    return (
        select(
            w.c.status,
            q.c.paused,
            may.label("may"),
            q.c.lease_ct,
            func.coalesce(
                bindparam("timeout", type_=Interval),
                q.c.visibility_timeout,
                bindparam("default_timeout", type_=Interval),
            ).label("visibility_timeout"),
            func.coalesce(q.c.max_attempts, bindparam("default_attempts", type_=Integer)).label(
                "max_attempts"
            ),
        )
        .select_from(
            one.outerjoin(w, w.c.id == bindparam("worker", type_=BigInteger)).outerjoin(
                q, q.c.id == _queue_id()
            )
        )
        .cte("me")
    )


def _arms(
    t: Tables, me: CTE, others: list[ColumnElement[bool]], *, bounded: bool, line: Line | None
) -> list[CTE]:
    m = t.messages
    above = _above(t) if bounded else []
    since = _since(t) if bounded else []
    come = m.c.vt <= func.statement_timestamp()
    alive = unestimated(~_exhausted(t, me))

    def arm(name: str, limit: ScalarSelect[int], *where: Any, order: list[Any]) -> CTE:
        rows = select(m.c.id, m.c.priority, m.c.vt).where(
            m.c.queue_id == _queue_id(), *where, *others
        )
        return rows.order_by(*order).limit(limit).with_for_update(skip_locked=True).cte(name)

    of_line = (m.c.state == READY, *above)
    if line is not None:
        of_line = (_is_in(m.c.id, line.first(t, _n())), unestimated(m.c.state == READY))
    ready = arm("ready", _n(), *of_line, order=[m.c.priority.desc(), m.c.id])
    late = _reach(ready, line)
    return [
        ready,
        arm("delayed", late, m.c.state == DELAYED, come, *since, order=[m.c.vt]),
        arm("expired", late, m.c.state == LEASED, come, *since, alive, order=[m.c.vt]),
    ]


def _more_is_late(arms: list[CTE], line: Line | None) -> ColumnElement[bool]:
    """Say whether more may be due than was looked at: an arm found as many as it may."""
    ready, *late = arms
    counts = (select(func.count()).select_from(arm).scalar_subquery() for arm in late)
    return func.greatest(*counts) >= _reach(ready, line)


def _reach(ready: CTE, line: Line | None) -> ScalarSelect[int]:
    most: ColumnElement[int] = literal_column(str(PROMOTED_AT_ONCE))
    if line is not None:  # others of their key may hold the first ones back, and nobody else leases
        return select(func.greatest(_number(), most)).scalar_subquery()
    # Behind a ready line that could fill the lease alone, look further; else leave the rest to
    # others, who would skip what is locked here.
    short = func.count() < _number()
    beyond = case((short, literal_column("0")), else_=most)
    return select(func.greatest(_number(), beyond)).select_from(ready).scalar_subquery()


def _above(t: Tables) -> list[ColumnElement[bool]]:
    m = t.messages
    return [m.c.priority >= _rank(), m.c.id >= bindparam("floor", type_=BigInteger)]


def _rank() -> ColumnElement[int]:
    return bindparam("rank", type_=SmallInteger)


def _since(t: Tables) -> list[ColumnElement[bool]]:
    return [t.messages.c.vt >= bindparam("since", type_=DateTime(timezone=True))]


def _promoted(t: Tables, late: list[CTE], best: CTE) -> CTE:
    """Let what is due and was passed over wait in the ready line.

    An expired lease keeps holder and read count: a late acknowledgement is still accepted.
    """
    m = t.messages
    passed = except_(union_all(*(select(arm.c.id) for arm in late)), select(best.c.id))
    return update(m).where(_is_in(m.c.id, passed)).values(state=READY).cte("promoted")


def _is_in(column: ColumnElement[int], ids: Any) -> ColumnElement[bool]:
    # An array is made once; a subquery in IN may be executed again for each row.
    return column == any_(func.array(ids.scalar_subquery()))


def _spent(
    t: Tables, me: CTE, expired: CTE, others: list[ColumnElement[bool]]
) -> ScalarSelect[Any]:
    """Say up to where the expired arm had to walk, if something there is exhausted."""
    m = t.messages
    filled = case((func.count() >= _number(), func.max(expired.c.vt)))
    walked = func.coalesce(
        select(filled).select_from(expired).scalar_subquery(), func.statement_timestamp()
    )
    return (
        select(walked)
        .where(
            m.c.queue_id == _queue_id(),
            m.c.state == LEASED,
            m.c.vt <= walked,
            unestimated(_exhausted(t, me)),
            *others,
        )
        .order_by(m.c.vt)
        .limit(select(literal_column("1")).scalar_subquery())
        .scalar_subquery()
    )


def _exhausted(t: Tables, me: CTE) -> ColumnElement[bool]:
    return exhausted(t, select(me.c.max_attempts).scalar_subquery())


def _queue_id() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)


def _n() -> ScalarSelect[int]:
    return select(_number()).scalar_subquery()


def _number() -> ColumnElement[int]:
    return bindparam("n", type_=BigInteger)
