"""The shop's own tables, and the message that an order becomes."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import pgqrs

__all__ = ["Base", "Order", "OrderPlaced", "Stock"]


class Base(DeclarativeBase):
    """What the shop's Alembic history compares."""


class Stock(Base):
    """How much there is of an article."""

    __tablename__ = "stock"
    __table_args__ = (CheckConstraint("count >= 0", "stock_count_check"),)

    article: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]


class Order(Base):
    """What somebody bought: placed, then shipped or refused."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str] = mapped_column(ForeignKey("stock.article"))
    quantity: Mapped[int]
    status: Mapped[str] = mapped_column(default="placed")


class OrderPlaced(pgqrs.Message):
    """An order is there to be shipped."""

    order_id: int
