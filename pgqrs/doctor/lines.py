"""Queues, workers and ids: what waits and why, who is gone, which ids come twice."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from pgqrs.doctor.check import Terms, command, error, note, warning
from pgqrs.models import tables
from pgqrs.operations import ids, queues, supervise
from pgqrs.statements import diagnosis as sql
from pgqrs.statements.system import named
from pgqrs.types import Finding, WorkerRole, WorkerStatus

__all__ = ["bump", "of_ids", "of_leases", "of_queues", "of_types", "of_workers", "reclaim"]


def of_queues(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say where messages wait although nobody may lease them, or nobody is there to."""
    every = queues.all_metrics(connection, terms.schema, 1)
    health = supervise.health(connection, terms.schema, None, terms.stale_after)
    at_work = {
        each.worker.queue_id
        for each in health
        if each.healthy
        and each.worker.role is WorkerRole.CONSUMER
        and each.worker.status is WorkerStatus.READY
    }
    for queue in every:
        name = queue.queue_name
        if queue.paused and queue.pending:
            message = f"queue {name!r} is paused, and messages wait"
            yield warning(message, command(terms, f"queue resume {name}"))
        elif queue.pending and queue.queue_id not in at_work:
            message = f"messages wait in queue {name!r}, and no consumer of it is alive"
            yield warning(message, command(terms, f"worker run MODULE:NAME --queue {name}"))
    for each in health:
        if each.worker.status is WorkerStatus.SUSPENDED and each.healthy:
            message = f"worker {each.worker.id} on {each.worker.hostname} is suspended"
            yield note(message, command(terms, f"worker resume {each.worker.id}"))


def of_workers(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say which workers ended without a word, and what they hold."""
    seconds = f"{terms.stale_after.total_seconds():g}"
    for each in supervise.health(connection, terms.schema, None, terms.stale_after):
        if not each.healthy:
            worker, age = each.worker, round(each.heartbeat_age.total_seconds())
            yield warning(
                f"worker {worker.id} ({worker.role}, pid {worker.pid} on {worker.hostname}) gave no"
                f" sign for {age:,} s, and holds {each.held_messages:,} messages",
                command(terms, f"worker reclaim --older-than {seconds} --yes"),
            )


def reclaim(connection: Connection, terms: Terms) -> None:
    """Stop stale workers, and make what they hold due now; their attempts count."""
    supervise.reclaim(connection, terms.schema, None, terms.stale_after)


def of_leases(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say which leases are held by workers that are stopped or gone: nobody will acknowledge them.

    So are those of `pgqrs message read`, for as long as they last.
    """
    messages = tables(terms.schema).messages
    for holder, held, left in connection.execute(sql.orphans(terms.schema)):
        last = round(left.total_seconds())
        yield warning(
            f"{held:,} messages are leased by worker {holder}, which is stopped or gone; the last"
            f" lease runs out in {last:,} s",
            f"wait, or UPDATE {named(messages)} SET vt = now() WHERE state = 2"  # noqa: S608 - told
            f" AND consumer_worker_id = {holder}",
        )


def of_types(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say which types of messages no worker has a handler for."""
    for queue in queues.all_metrics(connection, terms.schema, queues.COUNT_LIMIT):
        for kind, number in queue.unhandled_types.items():
            yield warning(
                f"queue {queue.queue_name!r} has {number:,} messages of type {kind!r}, which no"
                " worker so far had a handler for",
                f"run a worker whose Handlers know {kind!r}, or cancel them:"
                f" {command(terms, 'message cancel ID')}",
            )


def of_ids(connection: Connection, terms: Terms) -> Iterator[Finding]:
    """Say where the next id is in use already, as after a restore of the rows alone."""
    for name, (last, highest) in ids.behind(connection, terms.schema).items():
        if last is None:
            message = f"this role may not see which id {name} gives next"
            remedy = f'GRANT SELECT ON ALL SEQUENCES IN SCHEMA "{terms.schema}" TO CURRENT_USER'
            yield note(message, remedy)
        else:
            message = f"{name} gives id {last + 1:,} next, and {highest:,} is in use"
            yield error(message, command(terms, "admin bump-ids"))


def bump(connection: Connection, terms: Terms) -> None:
    """Go on with ids that are not in use."""
    ids.bump(connection, terms.schema)
