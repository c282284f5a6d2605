"""Every key of the first sketch's file, from each source; and `config show`, which tells them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from settings import leave_nothing_around, shows, url_of, write

import pgqrs
from pgqrs import Config, DatabaseConfig, PerformanceConfig, QueueConfig
from pgqrs.cli.app import run

SKETCH: dict[str, dict[str, Any]] = {
    "database": {
        "host": "db.example",
        "port": 6432,
        "username": "ann",
        "password": "s3cret",
        "database": "myapp",
        "schema": "jobs",
        "max_connections": 11,
        "connection_timeout_seconds": 31,
    },
    "queue": {
        "default_lock_time_seconds": 6,
        "max_batch_size": 101,
        "enable_listen_notify": False,
        "cleanup_interval_seconds": 301,
    },
    "performance": {
        "prefetch_count": 12,
        "connection_pool_size": 13,
        "query_timeout_seconds": 32,
    },
}
FLAT = {key: value for group in SKETCH.values() for key, value in group.items()}


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave_nothing_around(monkeypatch, tmp_path)


def holds(config: Config) -> None:
    assert url_of(config) == "postgresql+psycopg://ann:s3cret@db.example:6432/myapp"
    for key, value in FLAT.items():
        if key != "password":
            assert getattr(config, "schema_" if key == "schema" else key) == value, key


@shows(*(key for key in FLAT if key != "schema"))
def test_every_key_of_the_sketch_from_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """In groups and flat, from code, a file and the environment; stronger sources win."""
    holds(Config(**SKETCH))
    holds(Config(**FLAT))
    in_code = Config(
        database=DatabaseConfig(**SKETCH["database"]),
        queue=QueueConfig(**SKETCH["queue"]),
        performance=PerformanceConfig(**SKETCH["performance"]),
    )
    holds(in_code)
    assert Config(queue=QueueConfig(), performance=PerformanceConfig()) == Config()
    holds(Config.from_file(write("flat.yaml", yaml.safe_dump(FLAT))))
    write("pgqrs.yaml", yaml.safe_dump(SKETCH))
    holds(Config.load())
    others = {key: "true" if value is False else f"{value}1" for key, value in FLAT.items()}
    for key, value in others.items():
        monkeypatch.setenv(f"PGQRS_{key.upper()}", value)
    monkeypatch.setenv("PGQRS_PORT", "http")
    with pytest.raises(pgqrs.InvalidConfigError, match="variable PGQRS_PORT is not valid"):
        Config.load()
    monkeypatch.setenv("PGQRS_PORT", "777")
    other = Config.from_env()
    assert (other.port, other.schema_, other.max_connections) == (777, "jobs1", 111)
    assert (other.prefetch_count, other.enable_listen_notify) == (121, True)
    holds(Config(**SKETCH))
    for key, value in FLAT.items():
        monkeypatch.setenv(f"PGQRS_{key.upper()}", str(value))
    holds(Config.from_env())


def test_groups_have_every_setting_once() -> None:
    """Each setting stands in one group, as it is called in files."""
    groups = (DatabaseConfig, QueueConfig, PerformanceConfig)
    keys = [key for group in groups for key in group.__annotations__]
    fields = Config.model_fields.items()
    assert sorted(keys) == sorted(field.alias or name for name, field in fields)


def test_each_setting_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, variable, file or default; of a part that a DSN has, that of the DSN."""
    write("pgqrs.yaml", "queue: {max_attempts: 9, validation: {max_depth: 3}}\nmax_batch_size: 7\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://ann:s3cret@h/d?sslpassword=s3cret")
    monkeypatch.setenv("PGQRS_MAX_BATCH_SIZE", "8")
    monkeypatch.setenv("PGQRS_PASSWORD", "s3cret")
    monkeypatch.setenv("PGQRS_VALIDATION_FORBIDDEN_KEYS", "b,a")
    found = {s.name: (s.value, s.origin) for s in Config.explain(schema="mine")}
    assert found["schema"] == ("mine", "argument")
    assert found["max_attempts"] == (9, "file pgqrs.yaml")
    assert found["max_batch_size"] == (8, "environment variable PGQRS_MAX_BATCH_SIZE")
    assert found["prefetch_count"] == (10, "default")
    dsn = "postgresql://ann:***@h/d?sslpassword=***"
    assert found["dsn"] == (dsn, "environment variable DATABASE_URL")
    assert found["host"] == ("h", "environment variable DATABASE_URL")
    assert found["password"] == ("***", "environment variable PGQRS_PASSWORD")
    assert found["validation.max_depth"] == (3, "file pgqrs.yaml")
    keys = "environment variable PGQRS_VALIDATION_FORBIDDEN_KEYS"
    assert found["validation.forbidden_keys"] == (["a", "b"], keys)
    assert "s3cret" not in repr(found)
    monkeypatch.setenv("PGQRS_DSN", "postgresql:///other")
    found = {s.name: (s.value, s.origin) for s in Config.explain()}
    assert found["database"] == ("other", "environment variable PGQRS_DSN")
    monkeypatch.delenv("PGQRS_DSN")
    monkeypatch.delenv("DATABASE_URL")
    found = {s.name: (s.value, s.origin) for s in Config.explain()}
    assert (found["dsn"], found["host"]) == ((None, "default"), ("localhost", "default"))


def test_config_show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it in each format, without a database and without secrets; mistakes are status 2."""

    def show(*words: str) -> tuple[int, str, str]:
        return run(["config", "show", *words]), *capsys.readouterr()

    monkeypatch.setenv("PGQRS_MAX_ATEMPTS", "3")
    dsn = "postgresql://ann:s3cret@h/d"
    rows = {}
    for form in ("table", "json", "yaml", "csv"):
        status, rows[form], complaints = show("--dsn", dsn, "--format", form)
        assert (status, "s3cret" in rows[form]) == (0, False)
        assert complaints == "note: PGQRS_MAX_ATEMPTS is the name of no setting\n"
    as_json = json.loads(rows["json"])
    assert as_json[0] == {
        "name": "dsn",
        "value": dsn.replace("s3cret", "***"),
        "origin": "argument",
    }
    assert yaml.safe_load(rows["yaml"]) == as_json
    table = list(csv.DictReader(io.StringIO(rows["csv"])))
    assert [row["name"] for row in table] == [each["name"] for each in as_json]
    assert table[0]["origin"] == "argument"
    write("bad.yaml", "queue: {max_atempts: 3}")
    status, out, complaints = show("--config", "bad.yaml")
    assert (status, out) == (2, "")
    assert "'max_atempts' from file bad.yaml is not valid: there is no such setting" in " ".join(
        complaints.split()
    )
    monkeypatch.setenv("PGQRS_MAX_ATTEMPTS", "many")
    status, _, complaints = show()
    assert status == 2
    assert "'max_attempts' from environment variable PGQRS_MAX_ATTEMPTS" in complaints
    assert show("--config", "nowhere.yaml")[0] == 2
