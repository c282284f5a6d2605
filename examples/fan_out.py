"""Fan out and collect: a book is counted by chapters, and the last chapter announces the sum.

python -m examples.fan_out
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

import pgqrs
from examples.server import giving_up, opened

BOOK = ["It was a dark night", "The rain fell", "", "Nobody came but the postman", "The end"]


class Base(DeclarativeBase):
    """The tables of this application."""


class Tally(Base):
    """How far the count of a book is."""

    __tablename__ = "tallies"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    chapters_left: Mapped[int]
    words: Mapped[int] = mapped_column(default=0)


class CountBook(pgqrs.Message):
    """A book is to be counted."""

    title: str
    chapters: list[str]


class CountChapter(pgqrs.Message):
    """So is a chapter of it."""

    tally_id: int
    text: str


class BookCounted(pgqrs.Message):
    """All of its chapters are."""

    tally_id: int


class Counting(pgqrs.Handlers):
    """Handlers without whom no sum would come: when one fails for good, all is over."""

    def __init__(self, consumer: pgqrs.Consumer) -> None:
        super().__init__()
        self._consumer = consumer

    def __call__(self, message: pgqrs.QueueMessage, *more: Any) -> Any:
        """Call the handler for a message."""
        with giving_up(self._consumer, message):
            return super().__call__(message, *more)


def counting(producer: pgqrs.Producer, consumer: pgqrs.Consumer) -> pgqrs.Handlers:
    """Give the handlers: each writes, enqueues and ends its message in one transaction."""
    handlers = Counting(consumer)

    @handlers.on(CountBook)
    def fan_out(message: pgqrs.QueueMessage[CountBook], session: Session) -> None:
        title, chapters = message.payload.title, message.payload.chapters
        tally = Tally(title=title, chapters_left=len(chapters))
        session.add(tally)
        session.flush()
        producer.within(session).batch_enqueue(
            CountChapter(tally_id=tally.id, text=chapter) for chapter in chapters
        )

    @handlers.on(CountChapter)
    def count(message: pgqrs.QueueMessage[CountChapter], session: Session) -> pgqrs.Retry | None:
        tally_id, text = message.payload.tally_id, message.payload.text
        if not text and message.attempts == 1:
            return pgqrs.Retry(error="it is not printed yet")
        tally = session.get_one(Tally, tally_id, with_for_update=True)
        tally.words += len(text.split())
        tally.chapters_left -= 1
        if tally.chapters_left == 0:
            producer.within(session).enqueue(BookCounted(tally_id=tally_id))
        return None

    @handlers.on(BookCounted)
    def collect(message: pgqrs.QueueMessage[BookCounted], session: Session) -> None:
        tally = session.get_one(Tally, message.payload.tally_id)
        print(f"{tally.title!r} has {tally.words} words")
        consumer.stop()

    return handlers


def main() -> None:
    """Count a book with four threads."""
    with opened("books", retry_delay=0.1) as engine:
        Base.metadata.create_all(engine)
        with (
            pgqrs.Producer(engine, "books") as producer,
            pgqrs.Consumer(engine, "books") as consumer,
        ):
            producer.enqueue(CountBook(title="The Postman", chapters=BOOK))
            handlers = counting(producer, consumer)
            report = consumer.run(handlers, session=sessionmaker(engine), concurrency=4)
        print(f"{report.completed} messages were worked, {report.failed} attempt failed")


if __name__ == "__main__":
    main()
