"""An application that pgqrs is a guest of: a table of its own, and eyes on all that happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

KINDS: Final = ("session", "scoped_session", "connection")
STATE: Final = (
    "SELECT 'message', id, state, read_ct, vt, consumer_worker_id FROM pgqrs.pgqrs_messages"
    " UNION ALL"
    " SELECT 'archive', id, 0, read_ct, archived_at, NULL FROM pgqrs.pgqrs_archive ORDER BY 1, 2"
)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="thing")


class Watch:
    """What happens to an engine, its connections, its pool and a session's transactions."""

    ENGINE = (
        "begin",
        "commit",
        "rollback",
        "savepoint",
        "rollback_savepoint",
        "release_savepoint",
        "set_connection_execution_options",
        "set_engine_execution_options",
        "engine_disposed",
    )
    POOL = ("connect", "checkout", "checkin", "reset", "invalidate", "soft_invalidate", "close")
    SESSION = (
        "after_begin",
        "after_commit",
        "after_rollback",
        "after_soft_rollback",
        "after_transaction_create",
        "after_transaction_end",
    )

    def __init__(self, engine: Engine) -> None:
        self.seen: list[str] = []
        for name in self.ENGINE:
            event.listen(engine, name, self._noting(name))
        for name in self.POOL:
            event.listen(engine.pool, name, self._noting(name))

    def over(self, session: Session) -> None:
        for name in self.SESSION:
            event.listen(session, name, self._noting(name))

    def _noting(self, name: str) -> Any:
        return lambda *_, **__: self.seen.append(name)


def joined_of(kind: str, engine: Engine) -> Any:
    """Give a transaction of one kind, begun by a statement of the host's."""
    if kind == "connection":
        joined: Any = engine.connect()
    elif kind == "session":
        joined = Session(engine)
    else:
        joined = scoped_session(sessionmaker(engine))
    joined.execute(text("SELECT 1"))
    return joined


@contextlib.contextmanager
def transaction(kind: str, engine: Engine) -> Iterator[Any]:
    """Give a transaction of one kind, closed at the end."""
    joined = joined_of(kind, engine)
    try:
        yield joined
    finally:
        joined.close()


def connection_of(joined: Any) -> Connection:
    return joined if isinstance(joined, Connection) else joined.connection()


def is_usable(joined: Any) -> bool:
    """Whether the transaction goes on: PostgreSQL has not aborted it, and it is the same one."""
    status = connection_of(joined).connection.driver_connection.info.transaction_status  # type: ignore[union-attr]
    return bool(status.name == "INTRANS")


def order(joined: Any) -> None:
    """Insert a row of the host's."""
    joined.execute(text("INSERT INTO orders (name) VALUES ('thing')"))


def state_of(engine: Engine) -> Any:
    """Give what everybody else sees of messages, archive and orders."""
    with engine.connect() as connection:
        orders = connection.scalar(text("SELECT count(*) FROM orders"))
        return orders, connection.execute(text(STATE)).all()


def settings_of(engine: Engine, joined: Any) -> Any:
    """Give all that could be changed of an engine, a session and a connection."""
    connection = connection_of(joined)
    return (
        engine.get_execution_options(),
        connection.get_execution_options(),
        connection.get_isolation_level(),
        connection.connection.driver_connection.autocommit,  # type: ignore[union-attr]
        connection.get_transaction(),
        connection.get_nested_transaction(),
        engine.pool.status(),
    )
