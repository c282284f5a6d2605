"""A checker of histories: whether a queue can have answered its clients as they say it did.

Each client appends to a file of its own a line before it sends an operation and one when the answer
is there (`Log`). Where it was killed, or cut off, in between, the outcome is unknown: then the
operation may have happened, once, or not at all. Instants of the server are microseconds of its own
clock; those of clients (`sent`, `answered`) are nanoseconds of the machine's one monotonic clock,
and only say which of two calls came first. At the end, when nobody works any more, `REST` reads
what the tables have. Then

    faults(operations, rest, limit)     what the clients and the tables tell (nothing: all was kept)
    sample_faults(samples, ...)         what `Sampler` saw meanwhile, ten times a second
    recount(admin)                      what the metrics say, against a count of all rows

give the broken promises in words. Which of them is looked for where:

    judge     no committed enqueue is lost or doubled; the leases of a message never overlap;
              (id, read_ct) is unique, and read_ct rises; one terminal transition at most; a message
              is dead exactly at its limit, and not while leased
    handling  a handler sees each lease once, and what it returned is what is kept
    waiting   priority, then age, is the order of leasing; who asks is given what is due, expired
              leases too: each within a bound
    keys      of one singleton or ordering key one message is leased, and under fifo in its order
    samples   no message is in its queue and in the archive; keys, connections, memory are bounded
    recount   metrics are true at rest

That the checker sees each of these faults when there is one, `test_history` and
`test_history_watched` show by planting it. To check clients of your own, write with `Log` as
`history_client` does.
"""

from __future__ import annotations

from collections.abc import Iterable

from history.handling import judge_handling
from history.judge import judge_messages
from history.keys import judge_keys
from history.past import Past
from history.records import (
    BACK,
    ENDINGS,
    LOST,
    OK,
    REST,
    UNKNOWN,
    Deed,
    Fence,
    Lease,
    Log,
    Operation,
    Row,
    read,
    read_deeds,
)
from history.recount import recount
from history.samples import Sample, Sampler, sample_faults
from history.waiting import judge_waiting

__all__ = [
    "BACK",
    "BOUND",
    "ENDINGS",
    "LOST",
    "OK",
    "REST",
    "UNKNOWN",
    "Deed",
    "Fence",
    "Lease",
    "Log",
    "Operation",
    "Past",
    "Row",
    "Sample",
    "Sampler",
    "faults",
    "read",
    "read_deeds",
    "recount",
    "sample_faults",
]

BOUND = 3_000_000
"""Microseconds in which what is due is leased if anything else is, or somebody asks.

The promise is one second; the rest is for a machine that does much else.
"""


def faults(
    operations: list[Operation],
    rest: Iterable[Row],
    limit: int,
    deeds: list[Deed] | None = None,
    *,
    policy: str = "standard",
    bound: int | None = BOUND,
) -> list[str]:
    """Say in words what cannot have been, if every promise was kept.

    `limit` is the queue's `max_attempts`; `deeds` are what handlers said, where leases were taken
    for handlers. A `policy` other than standard holds messages back on purpose, so who waits is
    not judged there; nor is it where `bound` is None.
    """
    past = Past(operations, rest, limit)
    judge_messages(past)
    if deeds is not None:
        judge_handling(past, deeds)
    if policy != "standard":
        judge_keys(past, policy)
    elif bound is not None:
        judge_waiting(past, bound)
    return past.faults
