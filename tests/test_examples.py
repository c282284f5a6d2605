"""The examples: each runs by one command, and prints what it says."""

from __future__ import annotations

import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

import pgqrs

ROOT = Path(__file__).parent.parent
NAMES = ["batch_import", "fan_out", "hello", "typed_messages", "webhook"]
PATIENCE = 60
HELLO = "Hello, Your Majesty!\nHello, Ada!\nHello, Grace!\nHello, Barbara!\n"


@pytest.fixture
def printed(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Run an example as `python -m` does, on one fresh database, and give what it prints.

    One that does not end by itself is interrupted, and has not printed what it should.
    """
    monkeypatch.setenv("PGQRS_DSN", dsn)
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setattr(logging.getLogger("pgqrs.run"), "disabled", False)

    def printed(name: str) -> str:
        patience = threading.Timer(PATIENCE, signal.raise_signal, (signal.SIGINT,))
        patience.start()
        try:
            runpy.run_module(f"examples.{name}", run_name="__main__", alter_sys=True)
        finally:
            patience.cancel()
        out, complaints = capsys.readouterr()
        assert complaints == ""
        return out

    return printed


def test_hello(printed: Callable[[str], str]) -> None:
    """All are greeted once, the most important first."""
    assert printed("hello") == HELLO


def test_batch_import(printed: Callable[[str], str]) -> None:
    """Good lines are stored, bad ones are told, and progress comes to its end."""
    out = printed("batch_import")
    assert "9996 lines are stored, 4 are bad:\n  line 10000: could not convert" in out
    assert re.search(r"Reading.* 100% .*\n.*Storing.* 100% ", out)


def test_fan_out(printed: Callable[[str], str]) -> None:
    """Each chapter is counted once, though one was tried twice."""
    out = "'The Postman' has 15 words\n7 messages were worked, 1 attempt failed\n"
    assert printed("fan_out") == out


def test_typed_messages(printed: Callable[[str], str]) -> None:
    """Each goes to its handler; what fits none is dead, or left for who knows it."""
    assert printed("typed_messages").splitlines() == [
        "Ada owes us 9.50",
        "Grace has been silent for 14 days",
        "dead: invoice {'cents': 950, 'customer': 'Barbara'}: PayloadError",
        "left for who knows it: telegram {'text': 'stop'}",
    ]


def test_webhook(printed: Callable[[str], str]) -> None:
    """What is committed arrives once, whatever the partner does with it; the rest never."""
    first, *attempts, last = printed("webhook").splitlines()
    assert first == "yacht: we sell no yachts"
    assert sorted(attempts) == [
        "book, attempt 1: Retry(delay=None, error={'error': 'overloaded'})",
        "book, attempt 2: {'delivers': 'book'}",
        "globe, attempt 1: Dead(reason={'error': 'we deliver no globes'})",
        "pen, attempt 1: Retry(delay=None, error='Remote end closed connection without response')",
        "pen, attempt 2: {'delivers': 'pen'}",
    ]
    assert last == "after 5 requests the partner delivers ['pen', 'book']"


def test_each_runs_again(printed: Callable[[str], str]) -> None:
    """On a database where it ran before it does the same; what was left for others is left."""

    def lines(name: str) -> list[str]:
        told = [line for line in printed(name).splitlines() if "100%" not in line]
        return sorted(told)

    for name in NAMES:
        before, more = lines(name), name == "typed_messages"
        left = ["left for who knows it: telegram {'text': 'stop'}"] * more
        assert lines(name) == sorted(before + left), name


def test_no_example_waits_for_what_is_dead(
    printed: Callable[[str], str], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last attempt fails it ends all the same: here the first, and tables are others."""
    monkeypatch.setattr("examples.server.ATTEMPTS", 1)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE tallies (); CREATE TABLE readings ()"))
    assert printed("fan_out") == "0 messages were worked, 1 attempt failed\n"
    assert printed("batch_import").startswith("0 lines are stored, ")
    assert "after 3 requests the partner delivers ['pen']\n" in printed("webhook")


def test_an_import_of_bad_lines_alone(
    admin: pgqrs.Admin, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written for them."""
    monkeypatch.syspath_prepend(str(ROOT))
    from examples.batch_import import store

    admin.create_queue("readings")
    with pgqrs.Producer(engine, "readings") as producer:
        bad = producer.enqueue({"line": 1, "place": "roof", "degrees": "?"})
    assert store(engine, [bad]) == [pgqrs.Dead("could not convert string to float: '?'")]


def test_the_partner_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """However that is left: the process would wait for it."""
    monkeypatch.syspath_prepend(str(ROOT))
    from examples.webhook import partner

    before = set(threading.enumerate())
    with pytest.raises(LookupError), partner():
        raise LookupError
    assert set(threading.enumerate()) <= before


def test_one_command_brings_its_server() -> None:
    """Without a DSN there is a PostgreSQL for the occasion."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PGQRS_")}
    command = [sys.executable, "-m", "examples.hello"]
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, "")


def test_examples_are_listed(printed: Callable[[str], str]) -> None:
    """By `python -m examples`, and all of each stands on its page."""
    assert [line.split()[0] for line in printed("__main__").splitlines()] == NAMES
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    shown = re.findall(r'^--8<-- "examples/(\w+)\.py"$', page, re.MULTILINE)
    assert sorted(shown) == sorted([*NAMES, "server"])
