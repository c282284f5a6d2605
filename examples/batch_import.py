"""Import a file in batches, with progress: each line is in once, bad ones are set aside.

python -m examples.batch_import
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from rich.progress import Progress
from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import pgqrs
from examples.server import giving_up, opened

LINES = 10_000


class Base(DeclarativeBase):
    """The tables of this application."""


class Reading(Base):
    """What a thermometer said."""

    __tablename__ = "readings"

    line: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str]
    degrees: Mapped[float]


def thermometers() -> Iterator[str]:
    """Give the lines of a file that is too large to be held; now and then one is damaged."""
    yield "line,place,degrees"
    for line in range(1, LINES + 1):
        yield f"{line},roof,{'?' if line % 2_500 == 0 else line % 40}"


def store(engine: Engine, messages: list[pgqrs.QueueMessage]) -> list[pgqrs.Dead | None]:
    """Write a batch by one statement; what came before, in an attempt that was lost, stays."""
    good: list[dict[str, Any]] = []
    answers: list[pgqrs.Dead | None] = []
    for message in messages:
        try:
            good.append(message.payload | {"degrees": float(message.payload["degrees"])})
            answers.append(None)
        except ValueError as error:
            answers.append(pgqrs.Dead(str(error)))
    if good:
        with engine.begin() as connection:
            connection.execute(insert(Reading).on_conflict_do_nothing(), good)
    return answers


def main() -> None:
    """Read the file into the queue, and the queue into the table."""
    with opened("readings") as engine, Progress() as progress:
        Base.metadata.create_all(engine)
        with pgqrs.Producer(engine, "readings") as producer:
            lines = progress.track(csv.DictReader(thermometers()), LINES, description="Reading")
            producer.batch_enqueue(lines, atomic=False)

        with pgqrs.Consumer(engine, "readings") as consumer:
            storing = progress.add_task("Storing", total=LINES)

            def handle(messages: list[pgqrs.QueueMessage]) -> list[pgqrs.Dead | None]:
                with giving_up(consumer, messages[0]):
                    answers = store(engine, messages)
                progress.advance(storing, len(messages))
                if progress.finished:
                    consumer.stop()
                return answers

            report = consumer.run(handle, batch_size=1_000)

        progress.print(f"{report.completed} lines are stored, {report.dead} are bad:")
        with pgqrs.Admin(engine) as admin:
            for bad in admin.dead_letters("readings", limit=report.dead):
                progress.print(f"  line {bad.payload['line']}: {bad.error}")


if __name__ == "__main__":
    main()
