"""The queue's tables, in the shop's own history."""

from __future__ import annotations

from pgqrs import migrations

revision = "shop_0002"
down_revision = "shop_0001"


def upgrade() -> None:
    migrations.upgrade("pgqrs_0002")


def downgrade() -> None:
    migrations.downgrade(None, from_="pgqrs_0002")
