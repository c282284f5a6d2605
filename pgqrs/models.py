"""The declarative models: what the tables are, for Core statements and for your own selects.

Reading through them is public. Writing goes through Producer, Consumer and Admin, which keep the
fence, so relationships are for joins and loading only. Collections are loaded only where a
statement asks for them: a queue may have millions of rows. The models name the default schema; for
another one set ``schema_translate_map={"pgqrs": "other"}`` on your statement or engine.
"""

from __future__ import annotations

import datetime as dt
import uuid
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger as Big
from sqlalchemy import (
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

__all__ = [
    "DEFAULT_SCHEMA",
    "DELAYED",
    "LEASED",
    "READY",
    "Archive",
    "Key",
    "Message",
    "Model",
    "Queue",
    "Tables",
    "Worker",
    "include",
    "tables",
]

DEFAULT_SCHEMA: Final = "pgqrs"

# Each has a partial index, which a plan can use only when the state stands in the statement as a
# literal.
READY: Final = literal_column("0", SmallInteger)
"""The state of a message that waits, to compare `Message.state` with."""
DELAYED: Final = literal_column("1", SmallInteger)
"""The state of one that waits for its `vt`; it keeps it until somebody leases it."""
LEASED: Final = literal_column("2", SmallInteger)
"""The state of one that a consumer leased, whether or not the lease ran out."""

_NOW: Final = text("now()")


class Model(DeclarativeBase):
    """The base of the models, with their metadata and naming convention."""

    metadata = MetaData(
        schema=DEFAULT_SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        },
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        int: Big,
        str: Text,
        dt.datetime: DateTime(timezone=True),
        dt.timedelta: Interval,
        dict[str, Any]: JSONB,
        uuid.UUID: Uuid,
    }


class Queue(Model):
    """A named line of messages, and its defaults."""

    __tablename__ = "pgqrs_queues"
    __table_args__ = (
        CheckConstraint("archive_mode IN ('full', 'meta', 'none')", "archive_mode"),
        CheckConstraint("max_attempts > 0", "max_attempts"),
        CheckConstraint(
            "policy IN ('short', 'singleton', 'stately', 'exclusive', 'fifo')", "policy"
        ),
        UniqueConstraint("queue_name"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    queue_name: Mapped[str]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    archive_mode: Mapped[str] = mapped_column(server_default=text("'full'"))
    visibility_timeout: Mapped[dt.timedelta | None]
    max_attempts: Mapped[int | None] = mapped_column(Integer)
    retry_delay: Mapped[dt.timedelta | None]
    retry_delay_max: Mapped[dt.timedelta | None]
    retry_backoff: Mapped[bool | None]
    retention: Mapped[dt.timedelta | None]
    dead_letter_queue_id: Mapped[int | None] = mapped_column(ForeignKey("pgqrs.pgqrs_queues.id"))
    policy: Mapped[str | None]
    lease_ct: Mapped[int] = mapped_column(server_default=text("0"))

    messages: Mapped[list[Message]] = relationship(viewonly=True, lazy="raise")
    archive: Mapped[list[Archive]] = relationship(viewonly=True, lazy="raise")
    workers: Mapped[list[Worker]] = relationship(viewonly=True, lazy="raise")
    dead_letter_queue: Mapped[Queue | None] = relationship(viewonly=True, remote_side="Queue.id")


class Worker(Model):
    """A registered user of a queue, with its heartbeat.

    Nothing that a heartbeat writes is indexed, so a heartbeat stays on its page.
    """

    __tablename__ = "pgqrs_workers"
    __table_args__ = (
        CheckConstraint("role IN ('producer', 'consumer', 'admin')", "role"),
        CheckConstraint("status IN ('ready', 'suspended', 'stopped')", "status"),
        Index("pgqrs_workers_queue", "queue_id", "id"),
        Index(
            "pgqrs_workers_address",
            "queue_id",
            "role",
            "hostname",
            "port",
            unique=True,
            postgresql_where=text("port IS NOT NULL AND shutdown_at IS NULL"),
        ),
        {"info": {"storage": {"fillfactor": "50"}}},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    queue_id: Mapped[int | None] = mapped_column(ForeignKey("pgqrs.pgqrs_queues.id"))
    role: Mapped[str]
    hostname: Mapped[str]
    port: Mapped[int | None] = mapped_column(Integer)
    pid: Mapped[int | None] = mapped_column(Integer)
    status: Mapped[str] = mapped_column(server_default=text("'ready'"))
    started_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)
    heartbeat_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)
    shutdown_at: Mapped[dt.datetime | None]
    leads_until: Mapped[dt.datetime | None]

    queue: Mapped[Queue | None] = relationship(viewonly=True)
    leased: Mapped[list[Message]] = relationship(
        primaryjoin="Worker.id == foreign(Message.consumer_worker_id)", viewonly=True, lazy="raise"
    )


class Message(Model):
    """A message that waits or is leased: small, hot, and in exactly one of the partial indexes."""

    __tablename__ = "pgqrs_messages"
    __table_args__ = (
        CheckConstraint("state BETWEEN 0 AND 2", "state"),
        Index(
            "pgqrs_messages_ready",
            "queue_id",
            text("priority DESC"),
            "id",
            postgresql_where=text("state = 0"),
        ),
        Index("pgqrs_messages_delayed", "queue_id", "vt", postgresql_where=text("state = 1")),
        Index("pgqrs_messages_leased", "queue_id", "vt", postgresql_where=text("state = 2")),
        Index(
            "pgqrs_messages_key",
            "queue_id",
            "key",
            "key_slot",
            unique=True,
            postgresql_where=text("key IS NOT NULL"),
        ),
        {
            "info": {
                "storage": {
                    "fillfactor": "50",
                    "vacuum_index_cleanup": "on",
                    "vacuum_truncate": "off",
                    "autovacuum_vacuum_scale_factor": "0",
                    "autovacuum_vacuum_threshold": "5000",
                    "autovacuum_vacuum_cost_delay": "0",
                    "autovacuum_analyze_scale_factor": "0",
                    "autovacuum_analyze_threshold": "50000",
                }
            }
        },
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    queue_id: Mapped[int] = mapped_column(ForeignKey("pgqrs.pgqrs_queues.id"))
    enqueued_at: Mapped[dt.datetime]
    producer_worker_id: Mapped[int | None]
    # What a lease changes stands together: an update logs all between the differences.
    vt: Mapped[dt.datetime]
    dequeued_at: Mapped[dt.datetime | None]
    consumer_worker_id: Mapped[int | None]
    read_ct: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    state: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    returned_ct: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    max_attempts: Mapped[int | None] = mapped_column(Integer)
    payload: Mapped[Any] = mapped_column(JSONB)
    message_type: Mapped[str | None]
    headers: Mapped[dict[str, Any] | None]
    error: Mapped[Any] = mapped_column(JSONB, nullable=True)
    options: Mapped[dict[str, Any] | None]
    message_id: Mapped[uuid.UUID | None]
    key: Mapped[str | None]
    key_slot: Mapped[int | None]

    queue: Mapped[Queue] = relationship(viewonly=True)
    producer: Mapped[Worker | None] = relationship(
        primaryjoin="foreign(Message.producer_worker_id) == Worker.id", viewonly=True
    )
    consumer: Mapped[Worker | None] = relationship(
        primaryjoin="foreign(Message.consumer_worker_id) == Worker.id", viewonly=True
    )


class Archive(Model):
    """A finished message: the history, under the message's own id.

    The key begins with the queue, so that it serves the queue's counts and purges too.
    """

    __tablename__ = "pgqrs_archive"
    __table_args__ = (
        PrimaryKeyConstraint("queue_id", "id"),
        Index(
            "pgqrs_archive_unfinished",
            "queue_id",
            "id",
            postgresql_where=text("status <> 'completed'"),
        ),
    )

    id: Mapped[int]
    queue_id: Mapped[int] = mapped_column(ForeignKey("pgqrs.pgqrs_queues.id"))
    vt: Mapped[dt.datetime]
    enqueued_at: Mapped[dt.datetime]
    dequeued_at: Mapped[dt.datetime | None]
    archived_at: Mapped[dt.datetime]
    producer_worker_id: Mapped[int | None]
    consumer_worker_id: Mapped[int | None]
    read_ct: Mapped[int] = mapped_column(Integer)
    returned_ct: Mapped[int] = mapped_column(Integer)
    max_attempts: Mapped[int | None] = mapped_column(Integer)
    priority: Mapped[int] = mapped_column(SmallInteger)
    status: Mapped[str]
    payload: Mapped[Any] = mapped_column(JSONB, nullable=True)
    message_type: Mapped[str | None]
    headers: Mapped[dict[str, Any] | None]
    output: Mapped[Any] = mapped_column(JSONB, nullable=True)
    error: Mapped[Any] = mapped_column(JSONB, nullable=True)
    options: Mapped[dict[str, Any] | None]
    message_id: Mapped[uuid.UUID | None]
    key: Mapped[str | None]

    queue: Mapped[Queue] = relationship(viewonly=True)
    producer: Mapped[Worker | None] = relationship(
        primaryjoin="foreign(Archive.producer_worker_id) == Worker.id", viewonly=True
    )
    consumer: Mapped[Worker | None] = relationship(
        primaryjoin="foreign(Archive.consumer_worker_id) == Worker.id", viewonly=True
    )


class Key(Model):
    """What outlives a message's stay in its queue: windows, callers' ids, keeping times.

    No part of a message that uses none of them.
    """

    __tablename__ = "pgqrs_keys"
    __table_args__ = (
        PrimaryKeyConstraint("queue_id", "kind", "key"),
        CheckConstraint("kind BETWEEN 0 AND 3", "kind"),
        Index("pgqrs_keys_until", "queue_id", "until"),
    )

    queue_id: Mapped[int] = mapped_column(ForeignKey("pgqrs.pgqrs_queues.id"))
    kind: Mapped[int] = mapped_column(SmallInteger)
    key: Mapped[str]
    number: Mapped[int | None]
    taken_at: Mapped[dt.datetime]
    until: Mapped[dt.datetime]

    queue: Mapped[Queue] = relationship(viewonly=True)


class Tables(NamedTuple):
    """The Core tables of one schema."""

    queues: Table
    workers: Table
    messages: Table
    archive: Table
    keys: Table


@cache
def tables(schema: str = DEFAULT_SCHEMA) -> Tables:
    """Give the Core tables in `schema`, built once."""
    return include(MetaData(naming_convention=Model.metadata.naming_convention), schema)


def include(metadata: MetaData, schema: str = DEFAULT_SCHEMA) -> Tables:
    """Put the tables of `schema` into a metadata of yours, and give them.

    For foreign keys to them and for diagrams. Names stay as pgqrs gives them, whatever the naming
    convention. Migrations still make the tables, so leave them out of Alembic's comparison.
    """
    return Tables(
        *(_included(model, metadata, schema) for model in (Queue, Worker, Message, Archive, Key))
    )


def _included(model: type[Model], metadata: MetaData, schema: str) -> Table:
    name = model.__tablename__
    if f"{schema}.{name}" in metadata.tables:
        return metadata.tables[f"{schema}.{name}"]
    return Model.metadata.tables[f"{DEFAULT_SCHEMA}.{name}"].to_metadata(metadata, schema=schema)
