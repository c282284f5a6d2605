"""What type checkers must see of typed messages; never run, only checked by mypy and pyright."""

from typing import Any, assert_type

import pgqrs
from pgqrs.aio import AsyncConsumer


class EmailMessage(pgqrs.Message, message_type="email"):
    to: str


def consumer(consumer: pgqrs.Consumer) -> None:
    message = consumer.dequeue(type=EmailMessage)
    assert_type(message, pgqrs.QueueMessage[EmailMessage] | None)
    if message is not None:
        assert_type(message.payload, EmailMessage)
        assert_type(message.payload.to, str)
    many = consumer.dequeue_batch(5, type=EmailMessage)
    assert_type(many, list[pgqrs.QueueMessage[EmailMessage]])
    plain = consumer.dequeue()
    if plain is not None:
        assert_type(plain.payload, Any)
        assert_type(plain.typed(EmailMessage), pgqrs.QueueMessage[EmailMessage])


async def async_consumer(consumer: AsyncConsumer) -> None:
    message = await consumer.dequeue(type=EmailMessage)
    assert_type(message, pgqrs.QueueMessage[EmailMessage] | None)


def handlers() -> None:
    handlers = pgqrs.Handlers()

    @handlers.on(EmailMessage)
    def email(message: pgqrs.QueueMessage[EmailMessage]) -> str:
        return message.payload.to

    assert_type(handlers.types, list[str])
