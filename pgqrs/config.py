"""Settings: one flat, frozen model, filled from arguments, the environment and a YAML file.

An error names the key and the source it came from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from pgqrs.errors import InvalidConfigError, MissingConfigError
from pgqrs.settings import Setting, explained
from pgqrs.sources import (
    ENVIRONMENT,
    PARTS,
    RULES,
    Source,
    environment,
    merged,
    read,
    strange_variables,
    surroundings,
)
from pgqrs.validation import ValidationConfig

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["Config", "validated_schema"]

_ALSO: Final = {"host": ("hostaddr",), "username": ("user",), "database": ("dbname",)}
"""What libpq calls the parts in a URL's query."""
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Seconds = Annotated[float, Field(gt=0, le=86400 * 365)]


class Config(BaseModel):
    """Where the database is, and how pgqrs behaves.

    `Config()` reads the environment (``PGQRS_*``, ``DATABASE_URL``) and a file
    (``PGQRS_CONFIG_FILE``, else ``./pgqrs.yaml`` or ``./pgqrs.yml``), then takes the defaults
    below. Raises InvalidConfigError naming key and source for an unknown key or a bad value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    dsn: SecretStr | None = None
    """A PostgreSQL URL; parts that the same or a stronger source gives replace its own. Without
    one, the five parts that follow are used."""
    host: str = "localhost"
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    username: str = "postgres"
    password: SecretStr | None = SecretStr("postgres")
    """Hidden wherever a configuration is shown."""
    database: str = "postgres"

    schema_: str = Field(default="pgqrs", alias="schema")
    """The schema of the pgqrs tables."""
    listen_dsn: SecretStr | None = None
    """A URL that leads straight to the server, for waiting consumers to listen on."""
    pooler: bool = False
    """Whether a pooler in transaction mode (PgBouncer, pgcat) stands before the server."""
    connection_pool_size: Annotated[int, Field(ge=1)] = 5
    """Connections kept open."""
    max_connections: Annotated[int, Field(ge=3)] = 10
    """The most connections one process opens: two are kept for waiting and for heartbeats."""
    connection_timeout_seconds: Seconds = 30
    """How long to wait for a connection, from the server or from the pool."""
    query_timeout_seconds: Seconds = 30
    """How long one statement may run, behind a pooler with the waiting for a server.

    Where the server hangs, the client cuts the connection four seconds later. And, by TCP on
    Linux, how long what was sent may stay unheard before the connection is given up.
    """

    default_lock_time_seconds: Seconds = 30
    """The visibility timeout of a lease where neither the call nor the queue gives one."""
    max_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    """Attempts before a message is dead, where neither it nor its queue says otherwise."""
    retry_delay_seconds: Annotated[float, Field(ge=0, le=86400 * 365)] = 1
    """How long a message waits after its first failed attempt."""
    retry_delay_max_seconds: Annotated[float, Field(ge=0, le=86400 * 365)] = 3600
    """The longest that it waits, however many attempts failed."""
    retry_backoff: bool = True
    """Whether the delay doubles with each attempt (and varies by a fifth), or is fixed."""
    poll_interval_seconds: Seconds = 1
    """How long to wait before looking again for messages that no notification told of."""
    enable_listen_notify: bool = True
    """Whether producers notify and waiting consumers listen; behind a pooler that needs
    `listen_dsn`."""
    prefetch_count: Annotated[int, Field(ge=0, le=100_000)] = 10
    """How many messages a running worker leases ahead of its handlers; unless it is set, more, up
    to `max_batch_size`, while handlers are quick."""
    shutdown_timeout_seconds: Annotated[float, Field(ge=0, le=86400)] = 30
    """How long handlers may go on after a running worker was told to stop."""
    cleanup_interval_seconds: Annotated[float, Field(ge=0, le=86400 * 365)] = 300
    """How often one of the running workers maintains the queues; 0 for never from this process."""
    max_batch_size: Annotated[int, Field(ge=1, le=100_000)] = 100
    """The most messages one lease takes."""
    enqueue_chunk_rows: Annotated[int, Field(ge=1)] = 1_000
    """The most rows of one INSERT of a batch."""
    enqueue_chunk_bytes: Annotated[int, Field(ge=1, le=200 * 2**20)] = 8 * 2**20
    """The most bytes of payload of one INSERT of a batch."""
    max_payload_bytes: Annotated[int, Field(ge=1, le=200 * 2**20)] = 2**20
    """The largest payload, as JSON text in UTF-8."""
    validation: ValidationConfig = ValidationConfig()
    """What else producers refuse to send; each of its rules is a setting of its own."""
    max_enqueue_per_second: Annotated[float, Field(ge=0.0001, le=1_000_000)] | None = None
    """How many messages each producer object may add a second; as many as it likes by default."""
    max_enqueue_burst: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """How many of them at once after a pause; unless it is set, as many as in a second."""
    heartbeat_interval_seconds: Seconds = 10
    """How often a worker says that it is alive."""
    stale_after_seconds: Seconds = 60
    """After how long without a heartbeat a worker counts as stale."""

    def __init__(self, **settings: Any) -> None:
        self._fill([("argument", settings), *surroundings(_keys())])

    @classmethod
    def from_dsn(cls, dsn: str, **settings: Any) -> Self:
        """Make a configuration from a DSN and settings alone; reads no environment, no file."""
        return cls._from([("argument", {"dsn": dsn, **settings})])

    @classmethod
    def from_env(cls, **settings: Any) -> Self:
        """Make a configuration from ``PGQRS_*`` (and ``DATABASE_URL``) variables.

        Raises MissingConfigError where they name no database.
        """
        return cls._named([("argument", settings), (ENVIRONMENT, environment(_keys()))])

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **settings: Any) -> Self:
        """Make a configuration from a YAML file, flat or in groups; reads no environment.

        Raises MissingConfigError where there is no such file or it names no database.
        """
        return cls._named([("argument", settings), (f"file {os.fspath(path)}", read(path))])

    @classmethod
    def load(
        cls,
        dsn: str | None = None,
        path: str | os.PathLike[str] | None = None,
        schema: str | None = None,
    ) -> Self:
        """Make a configuration from all sources: these arguments, the environment, a file.

        Raises MissingConfigError, naming where it looked, when no source names a database.
        """
        return cls._named(_all_sources(dsn, path, schema))

    @classmethod
    def explain(
        cls,
        dsn: str | None = None,
        path: str | os.PathLike[str] | None = None,
        schema: str | None = None,
    ) -> list[Setting]:
        """Say of each setting what `load` with these arguments makes of it, and why; no secrets.

        Where no source names a database, that is the server of this machine. Raises
        InvalidConfigError, and MissingConfigError for a file that is not there.
        """
        config = cls.__new__(cls)
        origins = config._fill(_all_sources(dsn, path, schema))  # noqa: SLF001 - its own class
        return list(explained(config, config.url, origins))

    @staticmethod
    def strange_variables() -> list[str]:
        """Give the environment's variables that are named ``PGQRS_*`` and are no setting."""
        return strange_variables(_keys())

    def for_listening(self) -> Self:
        """Give the configuration of the direct connection that `listen_dsn` names."""
        soon = min(self.connection_timeout_seconds, 2)  # meanwhile no lease is extended
        changes = {"dsn": self.listen_dsn, "pooler": False, "connection_timeout_seconds": soon}
        return self.model_copy(update=changes)

    @property
    def url(self) -> URL:
        """The database as a SQLAlchemy URL for the psycopg driver (its repr hides the password)."""
        from sqlalchemy import URL

        if self.dsn is not None:
            return _parsed(self.dsn.get_secret_value())
        password = self.password.get_secret_value() if self.password else None
        return URL.create(
            "postgresql+psycopg", self.username, password, self.host, self.port, self.database
        )

    @field_validator("schema_")
    @classmethod
    def _check_schema(cls, value: str) -> str:
        return validated_schema(value)

    @field_validator("max_enqueue_burst")
    @classmethod
    def _check_burst(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("max_enqueue_per_second") is None:
            raise ValueError("without max_enqueue_per_second it does nothing")
        return value

    @field_validator("dsn", "listen_dsn")
    @classmethod
    def _check_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _parsed(value.get_secret_value())
        return value

    @classmethod
    def _from(cls, sources: list[Source]) -> Self:
        config = cls.__new__(cls)
        config._fill(sources)  # noqa: SLF001 - a constructor of its own class
        return config

    @classmethod
    def _named(cls, sources: list[Source]) -> Self:
        config = cls._from(sources)
        if config.model_fields_set.isdisjoint(("dsn", *PARTS)):
            looked = "; ".join(name for name, _ in sources)
            raise MissingConfigError(
                f"no database is named (looked at: {looked}): pass a DSN, set PGQRS_DSN or"
                " DATABASE_URL, or write pgqrs.yaml"
            )
        return config

    def _fill(self, sources: list[Source]) -> dict[str, str]:
        settings, origins = merged(sources)
        try:
            type(self).__pydantic_validator__.validate_python(settings, self_instance=self)
        except ValidationError as error:
            raise _invalid(error, origins) from None
        parts: list[str] = [part for part in PARTS if part in settings]
        if self.dsn is not None and parts:
            object.__setattr__(self, "dsn", self._dsn_with(parts, origins))
        return origins

    def _dsn_with(self, parts: list[str], origins: Mapping[str, str]) -> SecretStr:
        given = {part: getattr(self, part) for part in parts}
        if isinstance(self.password, SecretStr) and "password" in given:
            given["password"] = self.password.get_secret_value()
        replaced = [name for part in parts for name in (part, *_ALSO.get(part, ()))]
        plain = url = self.url.set(**given).difference_update_query(replaced)
        if url.username is None and url.password:  # which would leave it out of the text
            url = url.update_query_dict({"password": str(url.password)})
        try:
            text = url.render_as_string(hide_password=False)
            if _parsed(text) == plain:
                return SecretStr(text)
        except ValueError:  # text that is no UTF-8 is one too
            pass
        reason = "it cannot be put into the dsn: write it there"
        raise InvalidConfigError(parts[0], origins.get(parts[0], "argument"), reason)


def validated_schema(name: str) -> str:
    """Give the schema name back; raises ValueError where it is no plain SQL identifier."""
    if not _IDENTIFIER.fullmatch(name) or len(name) > 63 or name.lower().startswith("pg_"):
        raise ValueError(
            "a schema name is up to 63 letters, digits and underscores, does not begin with a"
            f" digit or pg_: {name!r}"
        )
    return name


def _all_sources(
    dsn: str | None, path: str | os.PathLike[str] | None, schema: str | None
) -> list[Source]:
    given = {"dsn": dsn, "schema": schema}
    arguments = {key: value for key, value in given.items() if value is not None}
    return [("argument", arguments), *surroundings(_keys(), path)]


def _keys() -> list[str]:
    return [field.alias or name for name, field in Config.model_fields.items()]


def _parsed(dsn: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(dsn.encode().decode())  # refuses what is no text of UTF-8
    except (ArgumentError, ValueError):
        raise ValueError("it is not a URL like postgresql://user@host:5432/database") from None
    backend = url.drivername.split("+")[0]
    if backend not in ("postgres", "postgresql"):
        raise ValueError(f"it is for {backend!r}, and pgqrs needs postgresql://")
    as_written = make_url(dsn.replace("%", "%25"))
    if "@" in f"{as_written.host}{as_written.database}":  # it may be what was to be secret
        raise ValueError("a / or an @ within a user, password or database is written %2F or %40")
    if password := url.query.get("password"):  # where its repr would show it
        last = password if isinstance(password, str) else password[-1]
        url = url.set(password=last).difference_update_query(["password"])
    return url.set(drivername="postgresql+psycopg")


def _invalid(error: ValidationError, origins: Mapping[str, str]) -> InvalidConfigError:
    first = error.errors(include_url=False, include_input=False)[0]
    steps = first["loc"][: 2 if first["loc"][0] == RULES else 1]
    key = ".".join(map(str, steps))
    reason = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        reason = "there is no such setting"
    origin = origins.get(key) or origins.get(str(steps[0]), "argument")
    return InvalidConfigError(key, origin, reason)
