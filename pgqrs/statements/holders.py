"""Look up who holds messages; changes nothing."""

from __future__ import annotations

from sqlalchemy import BigInteger, Executable, Text, any_, bindparam, func, literal_column, select

from pgqrs.models import LEASED, Tables
from pgqrs.statements.arrays import numbers
from pgqrs.statements.per_schema import per_schema

__all__ = ["holders"]


@per_schema
def holders(t: Tables) -> Executable:
    """Give those of `mids` that are in `queue` (its id), with the lease of each, and who holds it.

    A row is (id, whether it is leased, worker id, read count, whether that worker is still there).
    """
    m, w = t.messages, t.workers
    leased = (m.c.state == LEASED) & (m.c.vt > func.clock_timestamp())
    stopped = literal_column("'stopped'", Text)
    there = func.coalesce(w.c.status, stopped) != stopped
    return (
        select(m.c.id, leased, m.c.consumer_worker_id, m.c.read_ct, there)
        .select_from(m.outerjoin(w, w.c.id == m.c.consumer_worker_id))
        .where(
            m.c.id == any_(numbers("mids", BigInteger)),
            m.c.queue_id == bindparam("queue", type_=BigInteger),
        )
    )
