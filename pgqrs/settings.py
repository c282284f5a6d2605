"""Settings one by one: the groups they can be given in, and where each has its value from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict
from urllib.parse import quote

from pydantic import BaseModel, SecretStr

from pgqrs.sources import PARTS, RULES

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["DatabaseConfig", "PerformanceConfig", "QueueConfig", "Setting", "explained"]

_HIDDEN: Final = "***"


class DatabaseConfig(TypedDict, total=False):
    """Settings of the group `database`: where the database is, and how to connect."""

    dsn: str
    host: str
    port: int
    username: str
    password: str | None
    database: str
    schema: str
    listen_dsn: str
    pooler: bool
    max_connections: int
    connection_timeout_seconds: float


class QueueConfig(TypedDict, total=False):
    """Settings of the group `queue`: how messages are added, leased, retried and looked after."""

    default_lock_time_seconds: float
    max_attempts: int
    retry_delay_seconds: float
    retry_delay_max_seconds: float
    retry_backoff: bool
    enable_listen_notify: bool
    cleanup_interval_seconds: float
    max_batch_size: int
    max_payload_bytes: int
    validation: Any
    max_enqueue_per_second: float | None
    max_enqueue_burst: int | None
    heartbeat_interval_seconds: float
    stale_after_seconds: float
    shutdown_timeout_seconds: float


class PerformanceConfig(TypedDict, total=False):
    """Settings of the group `performance`: how much at once, and how long."""

    prefetch_count: int
    connection_pool_size: int
    query_timeout_seconds: float
    poll_interval_seconds: float
    enqueue_chunk_rows: int
    enqueue_chunk_bytes: int


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: its value, with secrets hidden, and where that comes from.

    `origin` is "argument", "environment variable NAME", "file PATH" or "default"; of a part of a
    DSN, that of the DSN.
    """

    name: str
    value: Any
    origin: str


def explained(config: BaseModel, url: URL, origins: Mapping[str, str]) -> Iterator[Setting]:
    """Give each setting of a Config, with its origin; `url` is where it leads."""
    for name, field in type(config).model_fields.items():
        key, value = field.alias or name, getattr(config, name)
        if key == RULES:
            for rule in type(value).model_fields:
                full = f"{RULES}.{rule}"
                origin = origins.get(full) or origins.get(RULES, "default")
                yield Setting(full, _plain(getattr(value, rule)), origin)
        elif key in PARTS and "dsn" in origins:
            yield Setting(key, _part(url, key), origins.get(key, origins["dsn"]))
        else:
            shown = _shown_url(value) if key.endswith("dsn") else _plain(value)
            yield Setting(key, shown, origins.get(key, "default"))


def _part(url: URL, key: str) -> Any:
    value = getattr(url, key)
    return _HIDDEN if key == "password" and value else value


def _shown_url(dsn: SecretStr | None) -> str | None:
    from sqlalchemy import make_url

    if dsn is None:
        return None
    url = make_url(dsn.get_secret_value())
    secret = [key for key in url.query if "password" in key.lower()]
    hidden = url.update_query_dict(dict.fromkeys(secret, _HIDDEN)).set(drivername="postgresql")
    return hidden.render_as_string(hide_password=True).replace(quote(_HIDDEN), _HIDDEN)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return _HIDDEN
    return sorted(value) if isinstance(value, frozenset) else value
