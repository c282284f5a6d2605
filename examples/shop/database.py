"""What has to be there before the shop opens: tables, a queue, and something to sell."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import pgqrs
from examples.shop.models import Stock

__all__ = ["QUEUE", "alembic_config", "prepare"]

QUEUE: Final = "orders"
CATALOGUE: Final = {"book": 100, "pen": 10, "globe": 1}


def alembic_config(engine: Engine) -> AlembicConfig:
    """Give what `alembic -c examples/shop/alembic.ini` reads, for this database."""
    config = AlembicConfig(Path(__file__).with_name("alembic.ini"))
    config.set_main_option("sqlalchemy.url", _escaped(engine))
    return config


def prepare(engine: Engine) -> None:
    """Bring the tables up to date, pgqrs's with the shop's own, and fill the shelves once."""
    command.upgrade(alembic_config(engine), "head")
    with pgqrs.Admin(engine) as admin:
        admin.create_queue(QUEUE, exist_ok=True, max_attempts=5)
    with Session(engine) as session, session.begin():
        for article, count in CATALOGUE.items():
            if session.get(Stock, article) is None:
                session.add(Stock(article=article, count=count))


def _escaped(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False).replace("%", "%%")
