"""What a queue needs from time to time, though nobody works on it: see `pgqrs.operations.maintain`.

Each statement touches a bounded number of rows, and skips what somebody is just changing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Executable,
    Integer,
    Interval,
    Select,
    any_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import REGCLASS

from pgqrs.models import LEASED, READY, Tables
from pgqrs.statements.bury import buried, dead, exhausted
from pgqrs.statements.dead_letter import ADDRESS
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = ["bury", "dead_rows", "lead", "revive", "untimed", "vacuum"]


@per_schema
def lead(t: Tables) -> Executable:
    """Make worker `me` the one that maintains for `term`, unless another one is; gives its id."""
    w, other = t.workers, t.workers.alias("other")
    leading = exists().where(
        other.c.leads_until > func.clock_timestamp(),
        other.c.shutdown_at.is_(None),
        other.c.id != w.c.id,
    )
    return (
        update(w)
        .where(w.c.id == bindparam("me", type_=BigInteger), w.c.shutdown_at.is_(None), ~leading)
        .values(leads_until=func.clock_timestamp() + bindparam("term", type_=Interval))
        .returning(w.c.id)
    )


@per_schema
def bury(t: Tables) -> Executable:
    """Move up to `n` messages of `queue` whose last lease ran out to the archive; gives their ids.

    Parameters: queue, n, default_attempts; upto and since (when they ran out at the latest, and at
    the earliest, or null). A paused queue is left as it is.
    """
    terms = _terms(t)
    limit = select(terms.c.max_attempts).scalar_subquery()
    upto = func.coalesce(
        bindparam("upto", type_=DateTime(timezone=True)), func.statement_timestamp()
    )
    since = func.coalesce(
        bindparam("since", type_=DateTime(timezone=True)), literal_column("'-infinity'")
    )
    vt, spent = t.messages.c.vt, unestimated(exhausted(t, limit))
    gone = dead(t, _expired(t, terms, vt <= upto, vt >= since, spent))
    return select(gone.c.id).add_cte(*buried(t, gone, terms))


@per_schema
def revive(t: Tables) -> Executable:
    """Let up to `n` expired messages of `queue` wait in the ready line; gives their ids.

    Those whose holder is gone, stopped, or without a heartbeat for `age`, with an attempt left;
    parameters beside: queue, n, default_attempts. They keep holder and read count, so that a late
    acknowledgement is still accepted.
    """
    m, w = t.messages, t.workers
    terms = _terms(t)
    limit = select(terms.c.max_attempts).scalar_subquery()
    beating = select(w.c.id).where(
        w.c.shutdown_at.is_(None),
        w.c.heartbeat_at >= func.clock_timestamp() - bindparam("age", type_=Interval),
    )
    alive = m.c.consumer_worker_id == any_(func.array(beating.scalar_subquery()))
    chosen = _expired(t, terms, unestimated(~exhausted(t, limit)), unestimated(~alive))
    return (
        update(m)
        .where(m.c.id == any_(func.array(chosen.scalar_subquery())))
        .values(state=READY)
        .returning(m.c.id)
    )


@per_schema
def dead_rows(t: Tables) -> Executable:
    """Give how many dead rows the statistics count in the table of messages."""
    return select(func.pg_stat_get_dead_tuples(cast(literal(_quoted(t)), REGCLASS)))


@cache
def untimed() -> Executable:
    """Let statements of this connection take their time; for one that nobody else gets."""
    return text("SET statement_timeout = 0")


@per_schema
def vacuum(t: Tables) -> Executable:
    """Free the indexes of messages from what is dead; without the right to, it is a warning."""
    return text(f"VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF, SKIP_LOCKED) {_quoted(t)}")


def _quoted(t: Tables) -> str:
    return f'"{t.messages.schema}".{t.messages.name}'


def _terms(t: Tables) -> CTE:
    q = t.queues
    default = bindparam("default_attempts", type_=Integer)
    attempts = func.coalesce(q.c.max_attempts, default).label("max_attempts")
    is_queue = q.c.id == _queue()
    address = [q.c[name] for name in ADDRESS]
    return select(q.c.paused, q.c.archive_mode, *address, attempts).where(is_queue).cte("terms")


def _expired(t: Tables, terms: CTE, *where: ColumnElement[bool]) -> Select[Any]:
    m = t.messages
    open_ = select(~terms.c.paused).scalar_subquery()
    of_queue = (m.c.queue_id == _queue(), m.c.state == LEASED)
    return (
        select(m.c.id)
        .where(*of_queue, m.c.vt <= func.statement_timestamp(), *where, open_)
        .order_by(m.c.vt)
        .limit(select(bindparam("n", type_=BigInteger)).scalar_subquery())
        .with_for_update(skip_locked=True, of=m)
    )


def _queue() -> ColumnElement[int]:
    return bindparam("queue", type_=BigInteger)
