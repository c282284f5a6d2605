"""The four tables: queues, workers, messages and archive.

Revises: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "pgqrs_0001"
down_revision = None
branch_labels = ("pgqrs",)
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade(schema: str = "pgqrs") -> None:
    make_schema(schema)
    create_queues(schema)
    create_workers(schema)
    create_messages(schema)
    create_archive(schema)


def downgrade(schema: str = "pgqrs") -> None:
    for table in ("pgqrs_archive", "pgqrs_messages", "pgqrs_workers", "pgqrs_queues"):
        op.drop_table(table, schema=schema)


def make_schema(schema: str) -> None:
    # Looks first: CREATE SCHEMA needs rights on the database even where the schema exists.
    if op.get_context().as_sql or not sa.inspect(op.get_bind()).has_schema(schema):
        op.execute(sa.schema.CreateSchema(schema, if_not_exists=True))


def to_queues(schema: str, table: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{schema}.pgqrs_queues.id"], name=op.f(f"{table}_{column}_fkey")
    )


def store(schema: str, table: str, **parameters: str) -> None:
    # CREATE TABLE could say it, but not through SQLAlchemy 2.0.
    settings = ", ".join(f"{name} = {value}" for name, value in parameters.items())
    op.execute(f'ALTER TABLE "{schema}".{table} SET ({settings})')


def create_queues(schema: str) -> None:
    op.create_table(
        "pgqrs_queues",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("queue_name", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False, server_default=sa.text("now()")),
        sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("archive_mode", sa.Text, nullable=False, server_default=sa.text("'full'")),
        sa.Column("visibility_timeout", sa.Interval),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("retry_delay", sa.Interval),
        sa.Column("retry_delay_max", sa.Interval),
        sa.Column("retry_backoff", sa.Boolean),
        sa.Column("retention", sa.Interval),
        sa.Column("dead_letter_queue_id", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name=op.f("pgqrs_queues_pkey")),
        sa.UniqueConstraint("queue_name", name=op.f("pgqrs_queues_queue_name_key")),
        sa.CheckConstraint(
            "archive_mode IN ('full', 'meta', 'none')", name=op.f("pgqrs_queues_archive_mode_check")
        ),
        sa.CheckConstraint("max_attempts > 0", name=op.f("pgqrs_queues_max_attempts_check")),
        to_queues(schema, "pgqrs_queues", "dead_letter_queue_id"),
        schema=schema,
    )


def create_workers(schema: str) -> None:
    op.create_table(
        "pgqrs_workers",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("queue_id", sa.BigInteger),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("port", sa.Integer),
        sa.Column("pid", sa.Integer),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'ready'")),
        sa.Column("started_at", INSTANT, nullable=False, server_default=sa.text("now()")),
        sa.Column("heartbeat_at", INSTANT, nullable=False, server_default=sa.text("now()")),
        sa.Column("shutdown_at", INSTANT),
        sa.Column("leads_until", INSTANT),
        sa.PrimaryKeyConstraint("id", name=op.f("pgqrs_workers_pkey")),
        sa.CheckConstraint(
            "role IN ('producer', 'consumer', 'admin')", name=op.f("pgqrs_workers_role_check")
        ),
        sa.CheckConstraint(
            "status IN ('ready', 'suspended', 'stopped')",
            name=op.f("pgqrs_workers_status_check"),
        ),
        to_queues(schema, "pgqrs_workers", "queue_id"),
        schema=schema,
    )
    store(schema, "pgqrs_workers", fillfactor="50")
    op.create_index(op.f("pgqrs_workers_queue"), "pgqrs_workers", ["queue_id", "id"], schema=schema)
    op.create_index(
        op.f("pgqrs_workers_address"),
        "pgqrs_workers",
        ["queue_id", "role", "hostname", "port"],
        schema=schema,
        unique=True,
        postgresql_where=sa.text("port IS NOT NULL AND shutdown_at IS NULL"),
    )


def create_messages(schema: str) -> None:
    op.create_table(
        "pgqrs_messages",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("queue_id", sa.BigInteger, nullable=False),
        sa.Column("enqueued_at", INSTANT, nullable=False),
        sa.Column("producer_worker_id", sa.BigInteger),
        # What a lease changes stands together: an update logs all between the differences.
        sa.Column("vt", INSTANT, nullable=False),
        sa.Column("dequeued_at", INSTANT),
        sa.Column("consumer_worker_id", sa.BigInteger),
        sa.Column("read_ct", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("state", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("returned_ct", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("message_type", sa.Text),
        sa.Column("headers", JSONB),
        sa.Column("error", JSONB),
        sa.PrimaryKeyConstraint("id", name=op.f("pgqrs_messages_pkey")),
        sa.CheckConstraint("state BETWEEN 0 AND 2", name=op.f("pgqrs_messages_state_check")),
        to_queues(schema, "pgqrs_messages", "queue_id"),
        schema=schema,
    )
    store(
        schema,
        "pgqrs_messages",
        fillfactor="50",
        vacuum_index_cleanup="on",
        vacuum_truncate="off",
        autovacuum_vacuum_scale_factor="0",
        autovacuum_vacuum_threshold="5000",
        autovacuum_vacuum_cost_delay="0",
        autovacuum_analyze_scale_factor="0",
        autovacuum_analyze_threshold="50000",
    )
    index_of_state(schema, "ready", 0, ["queue_id", sa.text("priority DESC"), "id"])
    index_of_state(schema, "delayed", 1, ["queue_id", "vt"])
    index_of_state(schema, "leased", 2, ["queue_id", "vt"])


def index_of_state(schema: str, name: str, state: int, columns: list[str | sa.TextClause]) -> None:
    op.create_index(
        op.f(f"pgqrs_messages_{name}"),
        "pgqrs_messages",
        columns,
        schema=schema,
        postgresql_where=sa.text(f"state = {state}"),
    )


def create_archive(schema: str) -> None:
    op.create_table(
        "pgqrs_archive",
        sa.Column("id", sa.BigInteger, nullable=False),
        sa.Column("queue_id", sa.BigInteger, nullable=False),
        sa.Column("vt", INSTANT, nullable=False),
        sa.Column("enqueued_at", INSTANT, nullable=False),
        sa.Column("dequeued_at", INSTANT),
        sa.Column("archived_at", INSTANT, nullable=False),
        sa.Column("producer_worker_id", sa.BigInteger),
        sa.Column("consumer_worker_id", sa.BigInteger),
        sa.Column("read_ct", sa.Integer, nullable=False),
        sa.Column("returned_ct", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("payload", JSONB),
        sa.Column("message_type", sa.Text),
        sa.Column("headers", JSONB),
        sa.Column("output", JSONB),
        sa.Column("error", JSONB),
        sa.PrimaryKeyConstraint("queue_id", "id", name=op.f("pgqrs_archive_pkey")),
        to_queues(schema, "pgqrs_archive", "queue_id"),
        schema=schema,
    )
    op.create_index(
        op.f("pgqrs_archive_unfinished"),
        "pgqrs_archive",
        ["queue_id", "id"],
        schema=schema,
        postgresql_where=sa.text("status <> 'completed'"),
    )
