"""Measure how fast messages come and go, from the newest ones: nothing is counted while they do.

Ids grow as time goes on, so the newest messages stand at the ends of two indexes. What was enqueued
in the last minute is among the newest rows of the table of messages, or of the queue's history.
Where that are more than a sample holds, a span shorter than a minute is looked at.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Text,
    case,
    cast,
    extract,
    func,
    literal_column,
    select,
)

from pgqrs.models import Tables
from pgqrs.statements.planning import in_order

__all__ = ["SAMPLE", "newest", "rates", "recent"]

SAMPLE: Final = 2_000
"""How many of the newest rows are looked at, of the messages and of each queue's history."""

_SAMPLE: Final = literal_column(str(SAMPLE), BigInteger)
_MINUTE: Final[ColumnElement[Any]] = literal_column("interval '1 minute'")
_INSTANT: Final[ColumnElement[Any]] = literal_column("interval '1 millisecond'")


def newest(t: Tables) -> CTE:
    """Give the newest messages that are still there, whatever their queue."""
    m = t.messages
    rows: Any = select(m.c.queue_id, m.c.enqueued_at)
    newest_rows = in_order(rows, m.c.id.desc(), limit=_SAMPLE)
    return newest_rows.cte("newest").prefix_with("MATERIALIZED")


def recent(t: Tables, latest: CTE) -> FromClause:
    """Count for a queue what its history says of the last minute: what came, and what went.

    Gives (came_span, came, went_span, went).
    """
    a, now = t.archive, func.statement_timestamp()
    of_queue = a.c.queue_id == t.queues.c.id
    line: Any = select(a.c.enqueued_at, a.c.archived_at).where(of_queue)
    sample = in_order(line, a.c.id.desc(), limit=_SAMPLE).correlate(t.queues).subquery("sample")
    here = _span(func.count(), func.min(latest.c.enqueued_at))
    waiting_span = select(here).select_from(latest).scalar_subquery()
    every: dict[str, Any] = {}  # OVER ()
    came_span = _span(func.count().over(**every), func.min(sample.c.enqueued_at).over(**every))
    went_span = _span(func.count().over(**every), func.min(sample.c.archived_at).over(**every))
    seen = select(
        *sample.c,
        func.least(came_span, waiting_span).label("came_span"),
        went_span.label("went_span"),
    ).subquery("seen")
    return select(
        func.coalesce(func.max(seen.c.came_span), waiting_span).label("came_span"),
        _number(seen.c.enqueued_at > now - seen.c.came_span).label("came"),
        func.coalesce(func.max(seen.c.went_span), _MINUTE).label("went_span"),
        _number(seen.c.archived_at > now - seen.c.went_span).label("went"),
    ).lateral("recent")


def rates(t: Tables, latest: CTE, history: FromClause) -> list[ColumnElement[Any]]:
    """Give how many messages a second came to a queue and were archived; null without a history."""
    since = func.statement_timestamp() - history.c.came_span
    mine = (latest.c.queue_id == t.queues.c.id, latest.c.enqueued_at > since)
    waiting = (
        select(func.count())
        .select_from(latest)
        .where(*mine)
        .correlate(t.queues, history)
        .scalar_subquery()
    )
    leaves_trace = t.queues.c.archive_mode != literal_column("'none'", Text)
    came, went = history.c.came + waiting, history.c.went
    return [
        case((leaves_trace, _per_second(came, history.c.came_span))).label("rate_in"),
        case((leaves_trace, _per_second(went, history.c.went_span))).label("rate_out"),
    ]


def _span(count: Any, first: Any) -> ColumnElement[Any]:
    """Give the time of which a sample tells everything: a minute, or less where it is full."""
    age = case((count >= _SAMPLE, func.statement_timestamp() - first))
    return func.greatest(func.least(_MINUTE, age), _INSTANT)


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(condition)


def _per_second(number: ColumnElement[Any], span: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(number, Double) / cast(extract("epoch", span), Double)
