"""The commands for workers, run as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from pgqrs import Admin, Archive, Config, Consumer, Producer

COMMAND = [sys.executable, "-W", "error", "-m", "pgqrs"]

HANDLERS = """
import pgqrs

def double(message):
    return message.payload * 2

class Deep:
    handlers = pgqrs.Handlers()

word = "no function"
"""


@pytest.fixture(autouse=True)
def consumer(config: Config, admin: Admin) -> Any:
    """A worker that holds one message."""
    admin.create_queue("q")
    with Producer(config, "q") as producer, Consumer(config, "q", "host", 1) as consumer:
        producer.enqueue(1)
        consumer.dequeue()
        yield consumer


def pgqrs(dsn: str, *words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PGQRS_DSN": dsn}
    return subprocess.run(
        [*COMMAND, *words],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told(dsn: str, *words: str) -> Any:
    """Give what a command says as JSON."""
    done = pgqrs(dsn, *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_looking_at_workers(dsn: str, consumer: Consumer) -> None:
    """list, get, stats and health show the same worker, for people and for programs."""
    worker_id = consumer.worker_id
    listed = told(dsn, "worker", "list", "--queue", "q")
    assert worker_id in [each["id"] for each in listed]
    shown = told(dsn, "worker", "get", str(worker_id))
    assert (shown["hostname"], shown["port"], shown["status"]) == ("host", 1, "ready")
    assert told(dsn, "worker", "stats", "q")["held_messages"] == 1
    assert [each["queue_name"] for each in told(dsn, "worker", "stats")] == ["q"]
    health = told(dsn, "worker", "health", "--timeout", "60")
    assert [each["held_messages"] for each in health if each["id"] == worker_id] == [1]
    table = pgqrs(dsn, "worker", "list")
    assert "consumer" in table.stdout
    assert pgqrs(dsn, "worker", "get", "404").returncode == 1


def test_steering_a_worker(dsn: str, consumer: Consumer) -> None:
    """suspend, resume, heartbeat and shutdown act on a worker elsewhere, in their order."""
    worker_id = str(consumer.worker_id)
    assert told(dsn, "worker", "suspend", worker_id)["status"] == "suspended"
    assert told(dsn, "worker", "resume", worker_id)["status"] == "ready"
    assert told(dsn, "worker", "heartbeat", worker_id)["status"] == "ready"
    refused = pgqrs(dsn, "worker", "shutdown", worker_id)
    assert refused.returncode == 1
    assert "suspend" in refused.stderr
    told(dsn, "worker", "suspend", worker_id)
    refused = pgqrs(dsn, "worker", "shutdown", worker_id)
    assert (refused.returncode, "1 messages" in refused.stderr) == (1, True)
    assert told(dsn, "worker", "shutdown", worker_id, "--release")["status"] == "stopped"
    assert pgqrs(dsn, "worker", "delete", worker_id).returncode == 1
    assert told(dsn, "worker", "delete", worker_id, "--yes") == {"worker_id": int(worker_id)}


def test_clearing_up(dsn: str, consumer: Consumer, admin: Admin) -> None:
    """release, reclaim and purge say what they did, and ask before they do it."""
    worker_id = str(consumer.worker_id)
    assert pgqrs(dsn, "worker", "release", worker_id).returncode == 1
    assert admin.queue_metrics("q").locked == 1
    assert len(told(dsn, "worker", "release", worker_id, "--yes")["message_ids"]) == 1
    assert admin.queue_metrics("q").pending == 1
    assert told(dsn, "worker", "reclaim", "--older-than", "60", "--yes") == {"message_ids": []}
    assert told(dsn, "worker", "purge", "--yes") == {"deleted": 0}


def test_being_a_worker(dsn: str, admin: Admin, tmp_path: Path) -> None:
    """Run works the queue with a function of the user's, and ends in good order on SIGTERM."""
    (tmp_path / "mine.py").write_text(HANDLERS)
    admin.create_queue("work")
    with Producer(admin, "work") as producer:
        producer.batch_enqueue(range(50))
    command = [*COMMAND, "--format", "json", "worker", "run", "mine:double", "--queue", "work"]
    environment = {**os.environ, "PGQRS_DSN": dsn}
    with subprocess.Popen(
        [*command, "--concurrency", "4"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        until(lambda: admin.queue_metrics("work").archived == 50)
        worker.send_signal(signal.SIGTERM)
        out, errors = worker.communicate(timeout=30)
    assert worker.returncode == 0, errors
    assert json.loads(out)["completed"] == 50
    outputs = sorted(message.output for message in Archive(admin).list())
    assert outputs == [number * 2 for number in range(50)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine", "MODULE:NAME"),
        ("nix:double", "nix"),
        ("mine:nix", "nix"),
        ("mine:word", "no function"),
    ],
)
def test_a_handler_that_is_none(dsn: str, tmp_path: Path, name: str, said: str) -> None:
    """What cannot be found or called is a mistake in the command line, said in a sentence."""
    (tmp_path / "mine.py").write_text(HANDLERS)
    done = pgqrs(dsn, "worker", "run", name, "--queue", "q", folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
