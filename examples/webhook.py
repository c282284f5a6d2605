"""A transactional outbox: a partner's webhook is told of orders, once they are committed.

    python -m examples.webhook

The partner is part of the example: overloaded at first, and then an answer of its gets lost.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

import pgqrs
from examples.server import ATTEMPTS, opened


class Base(DeclarativeBase):
    """The tables of this application."""


class Purchase(Base):
    """What somebody bought."""

    __tablename__ = "purchases"

    id: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str]


def place(article: str, session: Session, outbox: pgqrs.Producer) -> None:
    """Write a purchase, and what is to be told of it, in one transaction."""
    purchase = Purchase(article=article)
    session.add(purchase)
    session.flush()
    news = {"purchase": purchase.id, "article": article}
    outbox.within(session).enqueue(news, message_id=uuid.uuid4())
    if article == "yacht":
        raise ValueError("we sell no yachts")


def shop(engine: Engine) -> None:
    """Sell some things; of what fails no purchase and no message is left."""
    with pgqrs.Producer(engine, "outbox") as outbox:
        for article in ("book", "yacht", "globe", "pen"):
            try:
                with Session(engine) as session, session.begin():
                    place(article, session, outbox)
            except ValueError as error:
                print(f"{article}: {error}")


def tell(message: pgqrs.QueueMessage, port: int) -> Any:
    """Tell the partner, under the same key each time: what is told twice is done once."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(message.message_id)}
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/purchases", json.dumps(message.payload), headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        return pgqrs.Retry(error=str(error))  # after the queue's delay, which doubles
    finally:
        connection.close()
    if answer.status >= 500:
        return pgqrs.Retry(error=body)
    return body if answer.status < 400 else pgqrs.Dead(body)  # it will never be accepted


class Partner(BaseHTTPRequestHandler):
    """Takes purchases by HTTP, each key once."""

    requests: ClassVar[Counter[str]] = Counter()
    delivers: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        """Be overloaded when first told of the book, and lose the first answer about the pen."""
        key = self.headers["Idempotency-Key"]
        article = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["article"]
        self.requests[key] += 1
        if article == "globe":
            self._answer(422, {"error": "we deliver no globes"})
        elif article == "book" and self.requests[key] == 1:
            self._answer(503, {"error": "overloaded"})
        else:
            known = self.delivers.setdefault(key, article)
            if article != "pen" or self.requests[key] > 1:
                self._answer(200, {"delivers": known})

    def _answer(self, status: int, body: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def partner() -> Iterator[int]:
    """Have the partner listen for the block; gives the port."""
    with HTTPServer(("127.0.0.1", 0), Partner) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Sell, and deliver the news until the partner has answered all of it, or it is dead."""
    options: pgqrs.QueueOptions = {"retry_delay": 0.1, "retry_backoff": True}
    with opened("outbox", **options) as engine, partner() as port:
        Base.metadata.create_all(engine)
        shop(engine)
        with pgqrs.Admin(engine) as admin, pgqrs.Consumer(engine, "outbox") as consumer:
            unanswered = admin.queue_metrics("outbox").total_messages

            def deliver(message: pgqrs.QueueMessage) -> Any:
                nonlocal unanswered
                answer = tell(message, port)
                print(f"{message.payload['article']}, attempt {message.attempts}: {answer}")
                if not isinstance(answer, pgqrs.Retry) or message.attempts >= ATTEMPTS:
                    unanswered -= 1
                if not unanswered:
                    consumer.stop()
                return answer

            consumer.run(deliver)
        requests = Partner.requests.total()
        print(f"after {requests} requests the partner delivers {list(Partner.delivers.values())}")


if __name__ == "__main__":
    main()
