"""What Prometheus scrapes: from a registry of one's own, and from `pgqrs metrics --listen`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pgqrs import Admin, Config, Consumer, Producer
from pgqrs.prometheus import QueueCollector

GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "monitoring.md"
COMMAND = [sys.executable, "-W", "error", "-m", "pgqrs", "metrics"]
Sample = tuple[str, frozenset[tuple[str, str]]]


def parsed(text: str) -> dict[Sample, float]:
    """Read the text format with the client's own parser."""
    families = text_string_to_metric_families(text)
    samples = [sample for family in families for sample in family.samples]
    return {(one.name, frozenset(one.labels.items())): one.value for one in samples}


def of(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


@contextlib.contextmanager
def served(dsn: str, *words: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command; nothing of it is left behind."""
    with subprocess.Popen(
        [*COMMAND, *words],
        env={**os.environ, "PGQRS_DSN": dsn, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def scrape(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.headers["Content-Type"], response.read().decode()


def test_a_registry_tells_how_everything_stands(config: Config, admin: Admin) -> None:
    """Queues, workers, tables and versions, each measured when it is asked for."""
    admin.create_queue("mails", max_attempts=1)
    registry, collector = CollectorRegistry(), QueueCollector(config)
    registry.register(collector)
    with Producer(config, "mails") as producer, Consumer(config, "mails") as consumer:
        producer.batch_enqueue(range(5))
        producer.enqueue_delayed(1, 3600)
        consumer.archive(consumer.dequeue_batch(3)[0])
        found = parsed(generate_latest(registry).decode())
    assert found[of("pgqrs_up")] == 1
    for state, count in {"pending": 2, "delayed": 1, "locked": 2}.items():
        assert found[of("pgqrs_queue_messages", queue="mails", state=state)] == count
    assert found[of("pgqrs_queue_held_messages", queue="mails")] == 2
    assert found[of("pgqrs_queue_workers", queue="mails", status="ready")] == 2
    assert found[of("pgqrs_queue_enqueued_per_second", queue="mails")] == pytest.approx(0.1)
    assert found[of("pgqrs_queue_archived_messages", queue="mails")] == 1
    assert found[of("pgqrs_messages_enqueued_total")] == 6
    assert found[of("pgqrs_table_bytes", table="pgqrs_messages")] > 0
    admin.pause_queue("mails")
    assert parsed(generate_latest(registry).decode())[of("pgqrs_queue_paused", queue="mails")] == 1
    collector.close()


def test_the_endpoint_serves_the_text_format_until_it_is_ended(dsn: str, admin: Admin) -> None:
    """In version 0.0.4, on the port it prints, measured anew each time; SIGTERM is a good end."""
    admin.create_queue("q")
    with served(dsn, "--listen", "127.0.0.1:0", "--format", "json") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        url = json.loads("".join(lines))["url"]
        kind, text = scrape(url)
        assert kind.startswith("text/plain; version=0.0.4")
        assert parsed(text)[of("pgqrs_queue_messages", queue="q", state="pending")] == 0
        with Producer(admin, "q") as producer:
            producer.enqueue(1)
        assert parsed(scrape(url)[1])[of("pgqrs_queue_messages", queue="q", state="pending")] == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_database_that_is_not_there_is_what_is_served() -> None:
    """Prometheus hears `pgqrs_up 0` and the log says why: an alert can tell it from a dead host."""
    nowhere = "postgresql://me:s3cr3t@127.0.0.1:1/none"
    with served(nowhere, "--listen", "0") as process:
        assert process.stdout is not None
        found = parsed(scrape(process.stdout.readline().strip())[1])
        assert found == {of("pgqrs_up"): 0}
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert "cannot be measured" in errors
    assert "s3cr3t" not in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--listen", "here"), "HOST:PORT"), (("--listen", "127.0.0.1:70000"), "HOST:PORT")],
)
def test_an_address_that_is_none_is_a_usage_error(words: tuple[str, ...], said: str) -> None:
    """It is told before anything is connected to."""
    with served("postgresql://127.0.0.1:1/none", *words) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert said in errors


def test_without_the_extra_the_command_says_how_to_get_it(tmp_path: Path) -> None:
    """Serving needs prometheus-client, and nothing else does."""
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    more = {"PYTHONPATH": str(tmp_path)}
    with served("postgresql://127.0.0.1:1/none", "--listen", "0", **more) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "pip install 'pgqrs[prometheus]'" in errors


def rules() -> list[dict[str, Any]]:
    text = GUIDE.read_text()
    block = text.partition("```yaml\ngroups:")[2].partition("```")[0]
    return [
        rule for group in yaml.safe_load("groups:" + block)["groups"] for rule in group["rules"]
    ]


def test_the_alerts_of_the_guide_are_about_metrics_that_exist(config: Config, admin: Admin) -> None:
    """Each rule has an expression, a severity and a sentence, and names only what is served."""
    import re

    admin.create_queue("q")
    registry = CollectorRegistry()
    registry.register(QueueCollector(config))
    served_names = {name for name, _ in parsed(generate_latest(registry).decode())}
    served_names |= {"pgqrs_queue_unhandled_messages", "pgqrs_table_last_vacuum_timestamp_seconds"}
    assert len(rules()) >= 8
    for rule in rules():
        assert (
            {"alert", "expr", "labels", "annotations"}
            <= rule.keys()
            <= {"alert", "expr", "for", "labels", "annotations"}
        )
        named = set(re.findall(r"\bpgqrs_\w+", rule["expr"]))
        assert named, rule
        assert named - {"pgqrs_messages", "pgqrs_archive"} <= served_names, rule
        assert rule["expr"].count("(") == rule["expr"].count(")")
