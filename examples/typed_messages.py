"""Typed messages: a model for each kind, a handler for each model, and what fits none of them.

python -m examples.typed_messages
"""

from __future__ import annotations

import logging
from decimal import Decimal

from pydantic import Field

import pgqrs
from examples.server import opened


class Invoice(pgqrs.Message):
    """Somebody owes us something."""

    customer: str
    amount: Decimal = Field(gt=0)


class Reminder(pgqrs.Message, message_type="payment_reminder"):
    """And has not paid."""

    customer: str
    days: int = 14


class Evening(pgqrs.Message):
    """The office closes."""


class InvoiceOfLastYear(pgqrs.Message, message_type="invoice"):
    """What an invoice was before amounts had a currency of their own."""

    customer: str
    cents: int


class Telegram(pgqrs.Message):
    """What a newer release sends, and this one does not know."""

    text: str


def office(consumer: pgqrs.Consumer) -> pgqrs.Handlers:
    """Give the handlers of a day."""
    handlers = pgqrs.Handlers()

    @handlers.on(Invoice)
    def write(message: pgqrs.QueueMessage[Invoice]) -> dict[str, str]:
        invoice = message.payload
        print(f"{invoice.customer} owes us {invoice.amount}")
        return {"sent_to": invoice.customer}  # is kept with the message

    @handlers.on(Reminder)
    def remind(message: pgqrs.QueueMessage[Reminder]) -> None:
        print(f"{message.payload.customer} has been silent for {message.payload.days} days")

    @handlers.on(Evening)
    def close(_message: pgqrs.QueueMessage[Evening]) -> None:
        consumer.stop()

    return handlers


def main() -> None:
    """Work through the mail of a day."""
    logging.getLogger("pgqrs.run").disabled = True  # what fails is told at the end
    with opened("mail", max_attempts=1) as engine, pgqrs.Admin(engine) as admin:
        with pgqrs.Producer(engine, "mail") as producer:
            producer.enqueue(Invoice(customer="Ada", amount=Decimal("9.50")))
            producer.enqueue(Reminder(customer="Grace"))
            producer.enqueue(InvoiceOfLastYear(customer="Barbara", cents=950))
            producer.enqueue(Telegram(text="stop"))
            producer.enqueue(Evening(), priority=-1)

        with pgqrs.Consumer(engine, "mail") as consumer:
            report = consumer.run(office(consumer))

        for dead in admin.dead_letters("mail", limit=report.dead):
            print(f"dead: {dead.message_type} {dead.payload}: {dead.error['type']}")
        for left in admin.messages("mail"):
            print(f"left for who knows it: {left.message_type} {left.payload}")


if __name__ == "__main__":
    main()
