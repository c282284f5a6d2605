"""What a message may be given beside its payload: options, keys, policies of queues.

Revises: pgqrs_0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "pgqrs_0002"
down_revision = "pgqrs_0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
POLICIES = "policy IN ('short', 'singleton', 'stately', 'exclusive', 'fifo')"


def upgrade(schema: str = "pgqrs") -> None:
    op.add_column("pgqrs_queues", sa.Column("policy", sa.Text), schema=schema)
    turn = sa.Column("lease_ct", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    op.add_column("pgqrs_queues", turn, schema=schema)
    op.create_check_constraint(
        op.f("pgqrs_queues_policy_check"), "pgqrs_queues", POLICIES, schema=schema
    )
    for table in ("pgqrs_messages", "pgqrs_archive"):
        op.add_column(table, sa.Column("options", JSONB), schema=schema)
        op.add_column(table, sa.Column("message_id", sa.Uuid), schema=schema)
        op.add_column(table, sa.Column("key", sa.Text), schema=schema)
    op.add_column("pgqrs_messages", sa.Column("key_slot", sa.BigInteger), schema=schema)
    op.create_index(
        op.f("pgqrs_messages_key"),
        "pgqrs_messages",
        ["queue_id", "key", "key_slot"],
        schema=schema,
        unique=True,
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    create_keys(schema)


def downgrade(schema: str = "pgqrs") -> None:
    op.drop_table("pgqrs_keys", schema=schema)
    op.drop_index(op.f("pgqrs_messages_key"), "pgqrs_messages", schema=schema)
    op.drop_column("pgqrs_messages", "key_slot", schema=schema)
    for table in ("pgqrs_messages", "pgqrs_archive"):
        for column in ("key", "message_id", "options"):
            op.drop_column(table, column, schema=schema)
    op.drop_constraint(op.f("pgqrs_queues_policy_check"), "pgqrs_queues", schema=schema)
    op.drop_column("pgqrs_queues", "lease_ct", schema=schema)
    op.drop_column("pgqrs_queues", "policy", schema=schema)


def create_keys(schema: str) -> None:
    op.create_table(
        "pgqrs_keys",
        sa.Column("queue_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger),
        sa.Column("taken_at", INSTANT, nullable=False),
        sa.Column("until", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("queue_id", "kind", "key", name=op.f("pgqrs_keys_pkey")),
        sa.CheckConstraint("kind BETWEEN 0 AND 3", name=op.f("pgqrs_keys_kind_check")),
        sa.ForeignKeyConstraint(
            ["queue_id"],
            [f"{schema}.pgqrs_queues.id"],
            name=op.f("pgqrs_keys_queue_id_fkey"),
        ),
        schema=schema,
    )
    op.create_index(op.f("pgqrs_keys_until"), "pgqrs_keys", ["queue_id", "until"], schema=schema)
