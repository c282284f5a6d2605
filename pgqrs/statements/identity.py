"""Find messages by the ids that their producers gave them, and forget them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Executable,
    Text,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from pgqrs.models import Tables
from pgqrs.statements.arrays import numbers
from pgqrs.statements.keys import IDENTITY, among
from pgqrs.statements.per_schema import per_schema
from pgqrs.statements.planning import unestimated

__all__ = ["find", "forget"]

_ONE: ColumnElement[int] = literal_column("1")


@per_schema
def find(t: Tables) -> Executable:
    """Look messages of `queue` (its name) up, by `keys` or by their own numbers.

    Two arrays side by side: of each place one is null. A row for each place: (queue id, message
    id or null, read count, holder), the last two null in the archive; none without such a queue.
    """
    q, k, m, a = t.queues, t.keys, t.messages, t.archive
    arrays = bindparam("keys", type_=ARRAY(Text)), bindparam("numbers", type_=ARRAY(BigInteger))
    asked = func.unnest(*arrays).table_valued("key", "number").render_derived("asked")
    keyed = select(k.c.number).where(
        k.c.queue_id == q.c.id, k.c.kind == IDENTITY, k.c.key == asked.c.key
    )
    number = func.coalesce(asked.c.number, keyed.correlate(q, asked).scalar_subquery())
    named = select(number.label("number")).correlate(q, asked).lateral("named")
    # One by one: with old statistics a join reads whole tables.
    waits = _one(m, m.c.id == named.c.number, unestimated(m.c.queue_id == q.c.id))
    past = _one(a, a.c.queue_id == q.c.id, a.c.id == named.c.number)
    here = waits.correlate(q, named).lateral("here")
    there = past.correlate(q, named).lateral("there")
    places = q.join(asked, true()).join(named, true()).outerjoin(here, true())
    return (
        select(
            q.c.id,
            func.coalesce(here.c.id, there.c.id),
            *(here.c.read_ct, here.c.consumer_worker_id),
        )
        .select_from(places.outerjoin(there, true()))
        .where(q.c.queue_name == bindparam("queue", type_=Text))
    )


@per_schema
def forget(t: Tables) -> Executable:
    """Delete the archived messages `mids` of `queue` (its id); gives their ids.

    And let the ids `keys` be given again that belonged to these, or to the messages `gone`. What
    somebody is just changing is left alone.
    """
    k, a = t.keys, t.archive
    queue = bindparam("queue", type_=BigInteger)
    # One by one: before PostgreSQL 17 an array may be no reason to use an index.
    mids = func.unnest(numbers("mids", BigInteger)).table_valued("mid").render_derived("mids")
    locked = select(a.c.id).where(a.c.queue_id == queue, a.c.id == mids.c.mid).limit(_ONE)
    held = locked.with_for_update(skip_locked=True).correlate(mids).lateral("held")
    ids = select(held.c.id).select_from(mids.join(held, true())).scalar_subquery()
    here = func.array(select(queue).scalar_subquery())
    chosen = (a.c.queue_id == any_(here), a.c.id == any_(func.array(ids)))
    past = delete(a).where(*chosen).returning(a.c.id).cte("past")
    theirs = any_(func.array(select(past.c.id).scalar_subquery()))
    over = or_(k.c.number == any_(numbers("gone", BigInteger)), k.c.number == theirs)
    array = bindparam("keys", type_=ARRAY(Text))
    asked = func.unnest(array).table_valued("key").render_derived("asked")
    named = (k.c.queue_id == queue, k.c.kind == IDENTITY, k.c.key == asked.c.key)
    keys = select(k.c.kind, k.c.key).where(*named, over).limit(_ONE)
    free = keys.with_for_update(skip_locked=True).correlate(asked).lateral("free")
    those = select(free.c.kind, free.c.key).select_from(asked.join(free, true())).cte("those")
    return select(past.c.id).add_cte(delete(k).where(among(t, those)).cte("freed"))


def _one(table: Any, *where: ColumnElement[bool]) -> Any:
    return select(table.c.id, table.c.read_ct, table.c.consumer_worker_id).where(*where).limit(_ONE)
