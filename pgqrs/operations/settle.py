"""Settle leases: finish messages with results, end attempts that failed, extend many."""

from __future__ import annotations

import datetime as dt
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import Connection

from pgqrs.config import Config
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.lease import Lease, Terms, found, lease
from pgqrs.payload import Json, encode
from pgqrs.sending import fetch_all
from pgqrs.statements import settle as sql
from pgqrs.statements import turn

__all__ = [
    "Extended",
    "Extension",
    "Failure",
    "Finish",
    "RetryTerms",
    "error_text",
    "extend_many",
    "fail_many",
    "finish_and_lease",
    "finish_many",
    "output_text",
    "text_of",
]

_LONGEST_TEXT: Final = 10_000
_STATUS: Final = itemgetter(1)  # of a Finish


class Finish(NamedTuple):
    """A lease that ends in the archive: under which status, with which result or error (JSON)."""

    fence: Fence
    status: str = "completed"
    output: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed: why (JSON), and how long to wait, None for the queue's delay."""

    fence: Fence
    error: str
    wait: dt.timedelta | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """A lease to be extended by `length`, its own; `spent`: since its handler began, if it has.

    Both in seconds.
    """

    fence: Fence
    length: float
    spent: float | None = None


@dataclass(frozen=True, slots=True)
class Extended:
    """A lease that is held: for how many seconds, and whether each attempt has its own time."""

    left: float
    is_limited: bool


@dataclass(frozen=True, slots=True)
class RetryTerms:
    """What holds where the queue says nothing."""

    max_attempts: int
    delay: dt.timedelta
    limit: dt.timedelta
    backoff: bool

    @classmethod
    def of(cls, config: Config) -> Self:
        """Give those of a configuration."""
        return cls(
            max_attempts=config.max_attempts,
            delay=dt.timedelta(seconds=config.retry_delay_seconds),
            limit=dt.timedelta(seconds=config.retry_delay_max_seconds),
            backoff=config.retry_backoff,
        )


def finish_many(
    connection: Connection, schema: str, worker_id: int, finishes: Sequence[Finish]
) -> set[Fence]:
    """Archive each; gives the fences that held."""
    statement = sql.finish_some_dead if _some_dead(finishes) else sql.finish_many
    rows = fetch_all(connection, statement(schema), _finishing(finishes, worker_id))
    return {Fence(*row) for row in rows}


def finish_and_lease(
    connection: Connection,
    schema: str,
    holder: tuple[int, int],
    finishes: Sequence[Finish],
    terms: Terms,
) -> tuple[set[Fence], Lease]:
    """Archive each, and lease, in one commit; gives the fences that held, and the lease.

    One commit instead of two is a third more messages a second where they come one at a time;
    where one is dead, which is rare, there are two.
    """
    queue_id, worker_id = holder
    if _some_dead(finishes):
        held = finish_many(connection, schema, worker_id, finishes)
        return held, lease(connection, schema, queue_id, worker_id, terms)
    parameters = _finishing(finishes, worker_id) | terms.parameters(queue_id, worker_id)
    turns = turn.finish_and_lease if terms.bounds is None else turn.finish_and_lease_above
    rows = fetch_all(connection, turns(schema), parameters)
    ids = rows[0][-1]
    held = {each.fence for each in finishes if ids is None or each.fence.message_id in ids}
    return held, found(rows)


def _some_dead(finishes: Sequence[Finish]) -> bool:
    return "dead" in map(_STATUS, finishes)


def _finishing(finishes: Sequence[Finish], worker_id: int) -> dict[str, Any]:
    fences, statuses, outputs, errors = zip(*finishes, strict=True)
    return {
        **_many(fences, worker_id),
        "outcomes": _unless_all("completed", statuses),
        "results": _unless_all(None, outputs),
        "reasons": _unless_all(None, errors),
    }


def _unless_all(usual: str | None, values: tuple[str | None, ...]) -> list[str | None]:
    return [] if values.count(usual) == len(values) else list(values)


def fail_many(
    connection: Connection,
    schema: str,
    holder: tuple[int, int],
    failures: Sequence[Failure],
    terms: RetryTerms,
) -> dict[Fence, bool]:
    """End attempts of `holder` (queue id, worker id); gives for each that held whether it is dead.

    One with attempts left is due again after its wait; the others are archived as dead.
    """
    queue_id, worker_id = holder
    parameters = {
        **_many([failure.fence for failure in failures], worker_id),
        "reasons": [failure.error for failure in failures],
        "waits": [_seconds(failure.wait) for failure in failures],
        "queue": queue_id,
        "default_attempts": terms.max_attempts,
        "default_delay": terms.delay,
        "default_limit": terms.limit,
        "default_backoff": terms.backoff,
    }
    rows = fetch_all(connection, sql.fail_many(schema), parameters)
    return {Fence(message_id, read_ct): dead for message_id, read_ct, dead in rows}


def extend_many(
    connection: Connection, schema: str, worker_id: int, leases: Sequence[Extension]
) -> dict[Fence, Extended]:
    """Push unexpired leases out, each by its length; gives those that held.

    One whose message gives each attempt a time of its own ends so long after its handler began.
    """
    parameters = {
        **_many([each.fence for each in leases], worker_id),
        "spans": [each.length for each in leases],
        "rests": [each.length - (each.spent or 0.0) for each in leases],
    }
    rows = fetch_all(connection, sql.extend_many(schema), parameters)
    return {Fence(mid, rc): Extended(left, limited) for mid, rc, left, limited in rows}


def output_text(output: Any) -> str | None:
    """Give the JSON text that is kept of a result; None for none. Raises PayloadError."""
    if output is None:
        return None
    return encode(Json(output) if isinstance(output, str) else output)


def error_text(error: Any) -> str:
    """Give the JSON text that is kept of an error: of an exception its type, message and traceback.

    Text that PostgreSQL cannot hold is mended rather than refused, and long text is cut.
    """
    if isinstance(error, BaseException):
        value: Any = {
            "type": type(error).__name__,
            "message": _storable(text_of(error)),
            "traceback": _storable("".join(traceback.format_exception(error))),
        }
        return encode(value)
    return encode(Json(_storable(error)) if isinstance(error, str) else error)


def text_of(error: BaseException) -> str:
    """Give what an exception says, whatever its own text is like."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is somebody else's
        return f"a {type(error).__name__} that cannot say what it is"


def _storable(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return whole[-_LONGEST_TEXT:]


def _seconds(wait: dt.timedelta | None) -> float | None:
    return None if wait is None else wait.total_seconds()


def _many(fences: Sequence[Fence], worker_id: int) -> dict[str, Any]:
    mids, rcs = zip(*fences, strict=True)
    return {"mids": mids, "rcs": rcs, "worker": worker_id}
