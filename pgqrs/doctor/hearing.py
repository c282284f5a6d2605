"""Whether notifications arrive: what a waiting consumer would find out when it starts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from sqlalchemy import Engine

from pgqrs.config import Config
from pgqrs.doctor.check import error, note, warning
from pgqrs.ear import Waker
from pgqrs.limit import Limit
from pgqrs.listening import Listener
from pgqrs.types import Finding

__all__ = ["of_hearing"]


def of_hearing(connect: Callable[[], Engine], config: Config) -> list[Finding]:
    """Open an ear as a running worker does: proven where a pooler may stand between."""
    told: list[tuple[str, bool]] = []
    limit = Limit(config.query_timeout_seconds)
    listener = Listener(connect, config, [], limit, lambda *said: told.append(said))
    engine = connect()
    try:
        with (
            closing(Waker()) as waker,
            closing(limit),
            engine.connect() as connection,
            listener.ear(connection, waker),
        ):
            pass
    finally:
        engine.dispose()
    sentence, good = told[-1]
    if not config.enable_listen_notify:
        found = note(sentence, "set enable_listen_notify, if that is not wanted")
    elif good:
        return []
    else:
        tell = error if config.listen_dsn is not None else warning
        remedy = "set listen_dsn to a URL that leads straight to the server, past the pooler"
        found = tell(sentence, remedy)
    return [replace(found, check="hearing")]
