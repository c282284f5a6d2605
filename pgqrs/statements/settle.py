"""Settle many leases at once, each in its own way: finished with a result, or a failed attempt.

The fence is that of `pgqrs.statements.acknowledge`, and so is what the archive keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Executable,
    Integer,
    Interval,
    Text,
    bindparam,
    case,
    cast,
    delete,
    extract,
    func,
    literal_column,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from pgqrs.models import DELAYED, Tables
from pgqrs.statements import fence
from pgqrs.statements.acknowledge import kept, settled, terms_of
from pgqrs.statements.arrays import doubles, texts
from pgqrs.statements.columns import LEAVING
from pgqrs.statements.dead_letter import ADDRESS
from pgqrs.statements.options import option, seconds
from pgqrs.statements.per_schema import per_schema

__all__ = ["extend_many", "fail_many", "finish_many", "finish_some_dead", "finished"]

_COMPLETED: ColumnElement[str] = literal_column("'completed'", Text)
# Doublings after which any delay is past every cap.
_GROWN_OUT: ColumnElement[int] = literal_column("40")


@per_schema
def finish_many(t: Tables) -> Executable:
    """Archive messages (mids, rcs) of `worker` with outcomes, results and reasons.

    Of the last three an array may be shorter: the rest is completed, without result and reason.
    Gives (id, read count) of those that were held.
    """
    return _finish_many(t, kept)


@per_schema
def finish_some_dead(t: Tables) -> Executable:
    """Do the same where an outcome may be `dead`."""
    return _finish_many(t, settled)


def finished(t: Tables) -> CTE:
    """Take messages (mids, rcs) of `worker` out, with outcomes, results and reasons."""
    m = t.messages
    return (
        delete(m)
        .where(*fence.of_many(t))
        .returning(
            *_leaving(t),
            func.coalesce(fence.given(t, texts("outcomes")), _COMPLETED).label("status"),
            func.coalesce(cast(fence.given(t, texts("reasons")), JSONB), m.c.error).label("error"),
            cast(fence.given(t, texts("results")), JSONB).label("output"),
        )
        .cte("gone")
    )


@per_schema
def fail_many(t: Tables) -> Executable:
    """End attempts (mids, rcs) of `worker` with reasons: due again after a while, or dead.

    `waits` are seconds, or null for the queue's retry delay, which doubles with each attempt up to
    its limit and varies by a fifth; a fixed delay does not vary. Parameters beside: queue (its
    id), default_attempts, default_delay, default_limit, default_backoff. Gives (id, read count,
    whether it is dead) of those that were held.
    """
    terms = _terms(t)
    spent, again = _spent(t, terms), _again(t, terms)
    ended = union_all(
        select(spent.c.id, spent.c.read_ct, literal_column("true", Boolean)),
        select(again.c.id, again.c.read_ct, literal_column("false", Boolean)),
    )
    return ended.add_cte(*settled(t, spent, terms))


@per_schema
def extend_many(t: Tables) -> Executable:
    """Push the unexpired leases (mids, rcs) of `worker` out by `spans`.

    Or by `rests`, where the message gives each attempt a time of its own; both are seconds. Gives
    (id, read count, seconds left, whether the message does that) of those that were held.
    """
    m, now = t.messages, func.clock_timestamp()
    limited = option(m, "expire_in", Text).is_not(None)
    by = case((limited, fence.given(t, doubles("rests"))), else_=fence.given(t, doubles("spans")))
    left = cast(extract("epoch", m.c.vt - now), Double)
    return (
        update(m)
        .where(*fence.of_many(t), m.c.vt > now)
        .values(vt=func.greatest(m.c.vt, now + seconds(by)))
        .returning(m.c.id, m.c.read_ct, left, limited)
    )


def _finish_many(t: Tables, end: Callable[[Tables, CTE, CTE], Sequence[CTE]]) -> Executable:
    gone = finished(t)
    return select(gone.c.id, gone.c.read_ct).add_cte(*end(t, gone, terms_of(t, gone)))


def _leaving(t: Tables) -> list[ColumnElement[Any]]:
    m = t.messages
    return [*(m.c[name] for name in LEAVING), func.clock_timestamp().label("archived_at")]


def _spent(t: Tables, terms: CTE) -> CTE:
    return (
        delete(t.messages)
        .where(*fence.of_many(t), _attempts(t) >= _limit(t, terms))
        .returning(
            *_leaving(t),
            literal_column("'dead'", Text).label("status"),
            cast(fence.given(t, texts("reasons")), JSONB).label("error"),
            null().cast(JSONB).label("output"),
        )
        .cte("spent")
    )


def _again(t: Tables, terms: CTE) -> CTE:
    m = t.messages
    return (
        update(m)
        .where(*fence.of_many(t), _attempts(t) < _limit(t, terms))
        .values(
            state=DELAYED,
            vt=func.clock_timestamp() + _delay(t, terms),
            consumer_worker_id=null(),
            error=cast(fence.given(t, texts("reasons")), JSONB),
        )
        .returning(m.c.id, m.c.read_ct)
        .cte("again")
    )


def _attempts(t: Tables) -> ColumnElement[int]:
    return t.messages.c.read_ct - t.messages.c.returned_ct


def _limit(t: Tables, terms: CTE) -> ColumnElement[int]:
    of_queue = select(terms.c.max_attempts).scalar_subquery()
    return func.coalesce(t.messages.c.max_attempts, of_queue)


def _terms(t: Tables) -> CTE:
    q = t.queues
    defaults = {
        "max_attempts": bindparam("default_attempts", type_=Integer),
        "retry_delay": bindparam("default_delay", type_=Interval),
        "retry_delay_max": bindparam("default_limit", type_=Interval),
        "retry_backoff": bindparam("default_backoff", type_=Boolean),
    }
    columns = [func.coalesce(q.c[name], value).label(name) for name, value in defaults.items()]
    is_queue = q.c.id == bindparam("queue", type_=BigInteger)
    of_queue = [q.c[name] for name in ("archive_mode", *ADDRESS)]
    return select(*columns, *of_queue).where(is_queue).cte("terms")


def _delay(t: Tables, terms: CTE) -> ColumnElement[Any]:
    # In seconds: an interval would overflow long before it is cut to the limit.
    base, limit = (
        func.coalesce(
            option(t.messages, name, Double),
            select(cast(extract("epoch", terms.c[name]), Double)).scalar_subquery(),
        )
        for name in ("retry_delay", "retry_delay_max")
    )
    of_queue = select(terms.c.retry_backoff).scalar_subquery()
    backoff = func.coalesce(option(t.messages, "retry_backoff", Boolean), of_queue)
    doublings = func.least(_attempts(t) - literal_column("1"), _GROWN_OUT)
    grown = func.least(limit, base * func.power(literal_column("2::float8"), doublings))
    spread: ColumnElement[float] = literal_column("0.8") + literal_column("0.4") * func.random()
    varied = func.least(limit, grown * spread)
    usual = case((backoff, varied), else_=base)
    return seconds(func.coalesce(fence.given(t, doubles("waits")), usual))
