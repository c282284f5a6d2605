"""Alembic's environment of the shop: its models, and pgqrs's plugin."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine

from examples.shop.models import Base

config = context.config
url = config.get_main_option("sqlalchemy.url")

if context.is_offline_mode():
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    engine = create_engine(url or "")
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            autogenerate_plugins=["alembic.autogenerate.*", "pgqrs"],
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()
