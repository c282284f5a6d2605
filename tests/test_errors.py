"""The tree of errors: what each is, says and carries."""

from __future__ import annotations

import datetime as dt
import pickle
import re
from typing import Any, Final

import pytest

import pgqrs
from pgqrs import PgqrsError, RateLimitedError, ThrottledError, UnavailableError, errors

pytestmark = pytest.mark.matrix

ALIASES: Final = {
    "Error": "PgqrsError",
    "QueueNotFound": "QueueNotFoundError",
    "WorkerNotFound": "WorkerNotFoundError",
    "InvalidState": "InvalidStateError",
}
BUILT_IN: Final = {
    "ConfigError": ValueError,
    "NotFoundError": LookupError,
    "PayloadError": ValueError,
    "QueryTimeoutError": TimeoutError,
}
EXAMPLES: Final = [
    (errors.InvalidConfigError("dsn", "environment", "no"), {"field": "dsn"}, "environment"),
    (errors.SchemaMissingError("s"), {"schema": "s"}, "run `pgqrs install`"),
    (errors.SchemaVersionError("s", "x"), {"schema": "s"}, "run `pgqrs verify`"),
    (errors.QueueNotFoundError("q"), {"queue": "q"}, "create it"),
    (errors.WorkerNotFoundError(7), {"worker_id": 7}, "7"),
    (errors.MessageNotFoundError(7), {"message_id": 7}, "7"),
    (errors.RoleNotFoundError("app"), {"role": "app"}, "CREATE ROLE"),
    (errors.QueueExistsError("q"), {"queue": "q"}, "exist_ok"),
    (errors.QueueNotEmptyError("q", 2, 3), {"messages": 2, "archived": 3}, "purge"),
    (errors.WorkerExistsError("h", 1, "q"), {"hostname": "h", "port": 1}, "another port"),
    (errors.DuplicateMessageError("q", "1-2"), {"message_id": "1-2", "queue": "q"}, "skip"),
    (errors.DuplicateMessageError("q", key="k", index=3), {"key": "k", "index": 3}, "item 3"),
    (errors.ThrottledError("q", "k", dt.timedelta(seconds=2)), {"key": "k"}, "in 2 seconds"),
    (errors.InvalidStateError("it", "closed", "used"), {"current": "closed"}, "used"),
    (errors.PayloadError("payload.a is 7", "payload.a", 3), {"path": "payload.a"}, "7"),
    (errors.RateLimitedError("q", dt.timedelta(seconds=1.5)), {"queue": "q"}, "in 1.5 seconds"),
    (errors.LeaseLostError(7), {"message_id": 7}, "not yours"),
]


WORTH_ANOTHER_TRY = (UnavailableError, RateLimitedError, ThrottledError)


def classes() -> list[type[PgqrsError]]:
    return [getattr(errors, name) for name in errors.__all__ if name not in ALIASES]


def test_tree_is_as_drawn() -> None:
    """The drawing at the top of the module shows each class under its parent, and nothing else."""
    drawing = str(errors.__doc__).split("\n\n")[1]
    parents: dict[int, str] = {}
    drawn: dict[str, str] = {}
    for line in drawing.splitlines():
        indent = re.search(r"[A-Z]", line).start()  # type: ignore[union-attr]
        first, *rest = re.findall(r"\b[A-Z]\w+Error\b", re.sub(r"\([A-Z]\w+\)", "", line))
        parents[indent] = first
        above = [parents[place] for place in sorted(parents) if place < indent]
        drawn[first] = above[-1] if above else "Exception"
        drawn.update(dict.fromkeys(rest, first))
    actual = {}
    for kind in classes():
        actual[kind.__name__] = kind.__bases__[0].__name__
    assert drawn == actual


def test_tree() -> None:
    """Each is a PgqrsError, and what it is to Python besides; some are worth another try.

    The names of earlier documents are the same classes.
    """
    for kind in classes():
        assert issubclass(kind, PgqrsError)
        assert kind.__doc__
        assert kind.retryable is issubclass(kind, WORTH_ANOTHER_TRY)
        assert getattr(pgqrs, kind.__name__, kind) is kind
    for name, base in BUILT_IN.items():
        assert issubclass(getattr(errors, name), base)
    for alias, name in ALIASES.items():
        assert getattr(pgqrs, alias) is getattr(pgqrs, name)


@pytest.mark.parametrize(("error", "data", "way_out"), EXAMPLES)
def test_error_says_what_and_what_to_do(
    error: PgqrsError, data: dict[str, Any], way_out: str
) -> None:
    """A message is one lower-case sentence with the way out; what it names are attributes."""
    message = str(error)
    assert message[0].islower()
    assert not message.endswith(".")
    assert "\n" not in message
    assert way_out in message
    for name, value in data.items():
        assert getattr(error, name) == value
        assert str(value) in message


@pytest.mark.parametrize(
    "error",
    [
        pgqrs.QueueNotFoundError("q"),
        pgqrs.InvalidConfigError("port", "environment", "no number"),
        pgqrs.QueueNotEmptyError("q", 1, 2),
        pgqrs.WorkerHasPendingMessagesError(5, 3),
        pgqrs.LeaseLostError(7, "gone"),
        pgqrs.UnavailableError("away", "57P01"),
        pgqrs.PayloadError("no JSON", "payload.a", 3),
        pgqrs.RateLimitedError("q", dt.timedelta(seconds=1.5)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_between_processes(error: pgqrs.PgqrsError) -> None:
    """Pickled and back, an error has its sentence and its data."""
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
