"""The worker: ships orders, each in the transaction that ends its message."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

import pgqrs
from examples.shop.database import QUEUE
from examples.shop.models import Order, OrderPlaced, Stock

__all__ = ["consumer_for", "handlers", "work"]

handlers: Final = pgqrs.Handlers()


@handlers.on(OrderPlaced)
def ship(message: pgqrs.QueueMessage[OrderPlaced], session: Session) -> dict[str, Any]:
    """Take the goods from the shelf, if there are enough: once, whatever happens to the worker."""
    order = session.get_one(Order, message.payload.order_id)
    stock = session.get_one(Stock, order.article, with_for_update=True)
    if stock.count < order.quantity:
        order.status = "refused"
    else:
        stock.count -= order.quantity
        order.status = "shipped"
    return {"order": order.id, "status": order.status}


def consumer_for(engine: Engine) -> pgqrs.Consumer:
    """Give the consumer of the shop's queue."""
    return pgqrs.Consumer(engine, QUEUE)


def work(consumer: pgqrs.Consumer, engine: Engine) -> pgqrs.Report:
    """Ship until told to stop."""
    return consumer.run(handlers, session=sessionmaker(engine), concurrency=4)
