"""The shop of examples/shop: what its customers get, and that one command opens it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import URL, Engine, create_engine
from waiting import ask, until

from pgqrs import Admin

uvicorn = pytest.importorskip("uvicorn", reason="the shop's packages are not installed")

ROOT = Path(__file__).parent.parent


@pytest.fixture
def host(empty_url: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The shop's database, with its shelves full."""
    monkeypatch.syspath_prepend(str(ROOT))
    from examples.shop.database import prepare

    engine = create_engine(empty_url)
    prepare(engine)
    yield engine
    engine.dispose()


class Customer:
    """Asks over HTTP: gives the status, and what the answer says."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    def order(self, article: str, quantity: int = 1) -> tuple[int, Any]:
        return self.ask("/orders", {"article": article, "quantity": quantity})

    def status(self, order: Any) -> str:
        return str(self.ask(f"/orders/{order['id']}")[1]["status"])

    def waiting(self) -> Any:
        return self.ask("/backlog")[1]["waiting"]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def customer(host: Engine) -> Iterator[Customer]:
    """A customer of the shop, served in this process and without a worker."""
    from examples.shop.app import create_app

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_app(host), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield Customer(port)
    server.should_exit = True
    thread.join(20)


@contextmanager
def shipping(host: Engine) -> Iterator[None]:
    from examples.shop.worker import consumer_for, work

    with consumer_for(host) as consumer:
        thread = threading.Thread(target=work, args=(consumer, host))
        thread.start()
        try:
            yield
        finally:
            consumer.stop()
            thread.join(20)


def test_an_order_is_shipped(host: Engine, customer: Customer) -> None:
    """Each order leaves the shelf once; what there is not enough of is refused."""
    wanted = [("book", 3), ("globe", 1), ("globe", 1), ("pen", 4)]
    placed = [customer.order(*each)[1] for each in wanted]
    assert {order["status"] for order in placed} == {"placed"}
    assert customer.waiting() == 4
    with shipping(host):
        until(lambda: customer.waiting() == 0)
    after = sorted(customer.status(order) for order in placed)
    assert after == ["refused", "shipped", "shipped", "shipped"]
    assert ask(host, "SELECT string_agg(count::text, ' ' ORDER BY article) FROM stock") == "97 0 6"
    assert ask(host, "SELECT count(*) FROM pgqrs.pgqrs_archive WHERE status = 'completed'") == 4


def test_a_request_that_fails_leaves_nothing(host: Engine, customer: Customer) -> None:
    """Neither an order nor a message."""
    assert customer.order("yacht")[0] == 404
    assert customer.order("pen", 0)[0] == 422
    assert customer.ask("/orders/1")[0] == 404
    assert ask(host, "SELECT count(*) FROM orders") == 0
    assert customer.waiting() == 0


def test_the_history_is_complete(host: Engine) -> None:
    """Models and revisions agree, pgqrs's own among them, and the way back leads to nothing."""
    from examples.shop.database import alembic_config

    config = alembic_config(host)
    command.check(config)
    with Admin(host) as admin:
        assert admin.verify() == []
    command.downgrade(config, "base")
    assert ask(host, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'pgqrs%'") == 0


def test_one_command_opens_it() -> None:
    """`python -m examples.shop` brings its server, tables and worker, and closes on Ctrl-C."""
    port = free_port()
    command_line = [sys.executable, "-m", "examples.shop", "--port", str(port)]
    customer = Customer(port)

    def order() -> Any:
        with suppress(urllib.error.URLError):
            return customer.order("book")[1]

    with subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.PIPE) as shop:
        try:
            placed = until(order, 60)
            until(lambda: customer.status(placed) == "shipped")
            shop.send_signal(signal.SIGINT)
            assert shop.wait(20) == 0
        finally:
            shop.kill()
