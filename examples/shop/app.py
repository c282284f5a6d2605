"""The web application: an order and its message are committed by the request, together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, ConfigDict, PositiveInt
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

import pgqrs
from examples.shop.database import QUEUE
from examples.shop.models import Order, OrderPlaced
from pgqrs.models import Message, Queue

__all__ = ["create_app"]


class NewOrder(BaseModel):
    """What a customer sends."""

    article: str
    quantity: PositiveInt = 1


class OrderView(BaseModel):
    """What a customer sees."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    article: str
    quantity: int
    status: str


def session_of(request: Request) -> Iterator[Session]:
    """Give the session of a request; what is not committed when it ends is rolled back."""
    with request.app.state.sessions() as session:
        yield session


def producer_of(request: Request) -> pgqrs.Producer:
    """Give the producer, one for the application."""
    producer: pgqrs.Producer = request.app.state.producer
    return producer


InSession = Annotated[Session, Depends(session_of)]
ByProducer = Annotated[pgqrs.Producer, Depends(producer_of)]


def place(new: NewOrder, session: InSession, producer: ByProducer) -> Any:
    """Place an order: there is a message for it if, and only if, there is an order."""
    order = Order(article=new.article, quantity=new.quantity)
    session.add(order)
    try:
        session.flush()
    except IntegrityError:
        raise HTTPException(404, f"we do not sell {new.article!r}") from None
    producer.within(session).enqueue(OrderPlaced(order_id=order.id))
    session.commit()  # before the answer: who is told of an order has one
    return order


def look(order_id: int, session: InSession) -> Any:
    """Look how far an order is."""
    order = session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "there is no such order")
    return order


def backlog(session: InSession) -> dict[str, int]:
    """Say how many orders wait, by a select of the shop's own."""
    waiting = select(func.count()).join(Message.queue).where(Queue.queue_name == QUEUE)
    return {"waiting": session.scalar(waiting) or 0}


def create_app(engine: Engine) -> FastAPI:
    """Give the application on a database that is prepared."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.sessions = sessionmaker(engine, expire_on_commit=False)
        with pgqrs.Producer(engine, QUEUE) as app.state.producer:
            yield

    app = FastAPI(title="Shop", lifespan=lifespan)
    app.add_api_route("/orders", place, methods=["POST"], status_code=201, response_model=OrderView)
    app.add_api_route("/orders/{order_id}", look, response_model=OrderView)
    app.add_api_route("/backlog", backlog)
    return app
