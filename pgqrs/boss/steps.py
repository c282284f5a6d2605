"""What a client does, prepared as calls for the sync and asyncio classes alike."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, Self

from sqlalchemy import URL, Connection

from pgqrs.boss.job import JobDetails
from pgqrs.call import Call, call
from pgqrs.config import Config, validated_schema
from pgqrs.consumer_steps import ConsumerSteps
from pgqrs.errors import InvalidStateError
from pgqrs.ledger import Ledger
from pgqrs.operations import identity, intervene
from pgqrs.operations.acknowledge import Fence
from pgqrs.operations.settle import RetryTerms, error_text, output_text
from pgqrs.worker import Registered

__all__ = ["BossSteps", "Connecting", "ground"]

P = ParamSpec("P")


def ground(bind: Any, schema: str | None, config: Config | None) -> tuple[Any, Config | None]:
    """Give what to bind to, and the configuration: without a bind, what the environment names."""
    if bind is None or isinstance(bind, str | URL):
        dsn = bind.render_as_string(hide_password=False) if isinstance(bind, URL) else bind
        return Config.load(dsn, schema=schema), None
    if schema is None:
        return bind, config
    own = bind if isinstance(bind, Config) else config or Config()
    there = own.model_copy(update={"schema_": validated_schema(schema)})
    return (there, None) if isinstance(bind, Config) else (bind, there)


class BossSteps:
    """Each method checks its arguments and gives the call that does it.

    What is said of `keys` is done with those that can be, and the call gives how many they were.
    """

    def __init__(self, config: Config) -> None:
        self.schema = config.schema_
        self.is_closed = False
        self._ledgers: dict[str, Ledger] = {}
        self._terms = RetryTerms.of(config)

    def follow(self, fetching: Registered[ConsumerSteps]) -> None:
        """Tell a consumer what of its leases is ended here, so that it beats for them no more."""
        self._ledgers[fetching.queue] = fetching._steps.ledger  # noqa: SLF001 - nobody else needs it

    def finding(self, queue: str, key: uuid.UUID) -> Call[JobDetails | None]:
        """Look a job up, wherever it is."""
        self.check_open()
        return call(self._find, queue, *_uuids([key]))

    def completing(self, queue: str, keys: Iterable[uuid.UUID], output: Any) -> Call[int]:
        """Complete what is active. Raises PayloadError."""
        return self._ending(identity.complete, queue, _uuids(keys), output_text(output))

    def failing(self, queue: str, keys: Iterable[uuid.UUID], details: Any) -> Call[int]:
        """End attempts of what is active. Raises PayloadError."""
        return self._ending(identity.fail, queue, _uuids(keys), error_text(details), self._terms)

    def cancelling(self, queue: str, keys: Iterable[uuid.UUID]) -> Call[int]:
        """Cancel what is not finished."""
        return self._ending(identity.act, queue, _uuids(keys), intervene.cancelling())

    def resuming(self, queue: str, keys: Iterable[uuid.UUID]) -> Call[int]:
        """Let what was cancelled wait again."""
        return self._ending(identity.act, queue, _uuids(keys), intervene.resuming())

    def deleting(self, queue: str, keys: Iterable[uuid.UUID]) -> Call[int]:
        """Delete jobs, wherever they are."""
        return self._ending(identity.delete, queue, _uuids(keys))

    def _find(self, connection: Connection, queue: str, key: uuid.UUID) -> JobDetails | None:
        info = identity.find(connection, self.schema, queue, key)
        return None if info is None else JobDetails.found(info)

    def check_open(self) -> None:
        """Raise InvalidStateError where the client is closed."""
        if self.is_closed:
            raise InvalidStateError("the client", "closed", "used")

    def _ending(
        self,
        step: Callable[Concatenate[Connection, str, str, P], set[Fence]],
        queue: str,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Call[int]:
        self.check_open()

        def run(connection: Connection) -> int:
            ended = step(connection, self.schema, queue, *args, **kwargs)
            if queue in self._ledgers:
                self._ledgers[queue].drop(ended)
            return len(ended)

        return Call(run, changes=True)


def _uuids(keys: Iterable[uuid.UUID | str]) -> list[uuid.UUID]:
    """Give ids as they are, or of the text that they travel in. Raises TypeError, ValueError."""
    given = list(keys)
    for key in given:
        if not isinstance(key, uuid.UUID | str):
            raise TypeError(f"the id of a job is a UUID, not {key!r}")
    return [uuid.UUID(key) if isinstance(key, str) else key for key in given]


class Connecting:
    """What the builders of clients have in common: everything but waiting."""

    def __init__(self) -> None:
        self._schema: str | None = None
        self._url: str | None = None

    def schema(self, name: str) -> Self:
        """Set the schema of the tables; pgqrs otherwise."""
        self._schema = name
        return self

    def url(self, dsn: str) -> Self:
        """Set the database; otherwise it is what PGQRS_DSN, DATABASE_URL or a file names."""
        self._url = dsn
        return self
