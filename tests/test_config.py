"""Where each setting comes from, and which source wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pydantic import ValidationError
from settings import DSN, leave_nothing_around, url_of, write
from sqlalchemy import make_url

from pgqrs import Admin, Config, Consumer, MissingConfigError, Producer, ValidationConfig


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave_nothing_around(monkeypatch, tmp_path)


def test_from_dsn_reads_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from_dsn` is the DSN and the settings beside it: neither environment nor files count."""
    monkeypatch.setenv("PGQRS_DSN", "postgresql://elsewhere/other")
    monkeypatch.setenv("PGQRS_SCHEMA", "other")
    monkeypatch.setenv("PGQRS_MAX_ATTEMPTS", "not a number")
    write("pgqrs.yaml", "max_batch_size: 7")
    config = Config.from_dsn(DSN, max_attempts=3)
    assert url_of(config) == "postgresql+psycopg://ann:s3cret@db.example:6543/app"
    assert (config.schema_, config.max_attempts, config.max_batch_size) == ("pgqrs", 3, 100)


@pytest.mark.parametrize("driver", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_dsn_is_rewritten_for_psycopg(driver: str) -> None:
    """Whichever way a PostgreSQL URL is written, psycopg 3 is the driver; the rest stays."""
    config = Config.from_dsn(f"{driver}://ann:p%40ss@[::1]:5433/app?sslmode=require")
    assert url_of(config) == "postgresql+psycopg://ann:p%40ss@[::1]:5433/app?sslmode=require"


def test_an_at_sign_in_a_database_is_written_as_in_a_password() -> None:
    """That is no part of a secret; SQLAlchemy 2.0 leaves it as it is written."""
    url = Config.from_dsn("postgresql://ann:p%40ss@h/my%40db").url
    assert (url.password, url.host) == ("p@ss", "h")
    assert unquote(url.database or "") == "my@db"


def test_defaults_are_a_server_on_this_machine() -> None:
    """`Config()` with nothing around it means the local server as postgres/postgres."""
    assert url_of(Config()) == "postgresql+psycopg://postgres:postgres@localhost:5432/postgres"


def test_parts_make_a_url() -> None:
    """Without a DSN, host, port, username, password and database say where the database is."""
    config = Config(host="h", port=1, username="u", password="a/b@c", database="d")
    assert make_url(url_of(config)).password == "a/b@c"
    assert url_of(config) == "postgresql+psycopg://u:a%2Fb%40c@h:1/d"
    assert url_of(Config(password=None)) == "postgresql+psycopg://postgres@localhost:5432/postgres"


def test_precedence_is_per_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each key by itself: argument, then environment, then file, then default."""
    write(
        "pgqrs.yaml",
        """
        dsn: postgresql://file/f
        schema: file
        max_attempts: 1
        max_batch_size: 1
        """,
    )
    monkeypatch.setenv("PGQRS_DSN", "postgresql://environment/e")
    monkeypatch.setenv("PGQRS_SCHEMA", "environment")
    monkeypatch.setenv("PGQRS_MAX_ATTEMPTS", "2")
    config = Config.load(schema="argument")
    assert url_of(config) == "postgresql+psycopg://environment/e"
    assert config.schema_ == "argument"
    assert config.max_attempts == 2
    assert config.max_batch_size == 1
    assert config.enqueue_chunk_rows == 1000
    assert Config(schema="argument") == config
    assert url_of(Config.load("postgresql://argument/a")) == "postgresql+psycopg://argument/a"


@pytest.mark.parametrize(
    ("argument", "environment", "file", "expected"),
    [
        ({}, {"HOST": "e"}, {"host": "f", "username": "u", "database": "d"}, "u:postgres@e:5432/d"),
        ({"host": "a"}, {"DSN": "postgresql://u:p@e:1/d"}, {}, "u:p@a:1/d"),
        ({"database": "a"}, {}, {"dsn": "postgresql://u:p@f:1/d"}, "u:p@f:1/a"),
        ({}, {"PASSWORD": "e"}, {"dsn": "postgresql://u@f:1/d"}, "u:e@f:1/d"),
        ({"dsn": "postgresql://u@a/d"}, {"HOST": "e", "PASSWORD": "e"}, {"port": 9}, "u@a/d"),
        ({"dsn": "postgresql://u@a/d", "port": 7}, {}, {}, "u@a:7/d"),
        ({}, {"PORT": "2"}, {"dsn": "postgresql://u@/d?host=/run&port=1"}, "u@:2/d?host=/run"),
        ({"host": "a"}, {}, {"dsn": "postgresql://u@/d?host=/run"}, "u@a/d"),
        ({}, {"PASSWORD": "e"}, {"dsn": "postgresql://u@/d?host=/run"}, "u:e@/d?host=/run"),
        ({"username": "a"}, {}, {"dsn": "postgresql://h/d?user=u"}, "a@h/d"),
    ],
)
def test_parts_and_dsn_follow_the_same_precedence(
    monkeypatch: pytest.MonkeyPatch,
    argument: dict[str, Any],
    environment: dict[str, str],
    file: dict[str, Any],
    expected: str,
) -> None:
    """A DSN is its parts: those of the same or a stronger source replace its own, weaker do not."""
    for key, value in environment.items():
        monkeypatch.setenv(f"PGQRS_{key}", value)
    write("pgqrs.yaml", "".join(f"{key}: '{value}'\n" for key, value in file.items()))
    url = make_url(url_of(Config(**argument)))
    assert url == make_url(f"postgresql+psycopg://{expected}")


def test_equal_settings_are_equal_configurations() -> None:
    """Configurations are values: equal and with one hash when all they mean is equal."""
    one, other = Config.from_dsn(DSN), Config.from_dsn(DSN)
    assert one == other
    assert hash(one) == hash(other)
    assert one != Config.from_dsn(DSN, database="other")
    assert one != Config.from_dsn(DSN, max_attempts=6)
    with pytest.raises(ValidationError, match="frozen"):
        one.max_attempts = 9  # type: ignore[misc]


def test_database_url_comes_after_pgqrs_dsn(monkeypatch: pytest.MonkeyPatch) -> None:
    """DATABASE_URL is taken, unless PGQRS_DSN is there; an empty variable is as good as none."""
    monkeypatch.setenv("DATABASE_URL", "postgres://host/theirs")
    assert url_of(Config.from_env()) == "postgresql+psycopg://host/theirs"
    monkeypatch.setenv("PGQRS_DSN", "")
    assert url_of(Config.from_env()) == "postgresql+psycopg://host/theirs"
    monkeypatch.setenv("PGQRS_DSN", "postgresql://host/ours")
    assert url_of(Config.from_env()) == "postgresql+psycopg://host/ours"
    monkeypatch.setenv("PGQRS_DSN", "")
    monkeypatch.setenv("DATABASE_URL", "")
    assert Config().url.host == "localhost"
    with pytest.raises(MissingConfigError):
        Config.from_env()


def test_from_env_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from_env` is the environment, and the settings beside it."""
    write("pgqrs.yaml", "max_attempts: 9")
    monkeypatch.setenv("PGQRS_DSN", DSN)
    monkeypatch.setenv("PGQRS_POOLER", "true")
    config = Config.from_env(max_batch_size=2)
    assert (config.max_attempts, config.pooler, config.max_batch_size) == (5, True, 2)


@pytest.mark.parametrize(
    "content",
    [
        """
        host: h
        database: d
        schema: s
        max_connections: 3
        default_lock_time_seconds: 5
        query_timeout_seconds: 2.5
        """,
        """
        database:
          host: h
          database: d
          schema: s
          max_connections: 3
        queue:
          default_lock_time_seconds: 5
        performance:
          query_timeout_seconds: 2.5
        """,
        """
        database: {host: h, database: d, schema: s}
        max_connections: 3
        queue:
        performance: {query_timeout_seconds: 2.5, default_lock_time_seconds: 5}
        """,
    ],
)
def test_from_file_flat_or_in_groups(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    """A YAML file may be flat or in the groups database, queue and performance; nothing else."""
    monkeypatch.setenv("PGQRS_HOST", "ignored")
    config = Config.from_file(write("some.yaml", content), max_attempts=2)
    assert (config.url.host, config.url.database, config.schema_) == ("h", "d", "s")
    assert (config.max_connections, config.max_attempts) == (3, 2)
    assert (config.default_lock_time_seconds, config.query_timeout_seconds) == (5, 2.5)


def test_rules_of_validation_follow_the_same_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule is a setting: argument, then environment, then file, also within a group."""
    path = write(
        "pgqrs.yaml",
        """
        database: {host: h}
        queue:
          validation:
            max_depth: 3
            max_string_length: 3
            forbidden_keys: [file]
            required_keys: [tenant, "on"]
        """,
    )
    monkeypatch.setenv("PGQRS_VALIDATION_MAX_STRING_LENGTH", "2")
    monkeypatch.setenv("PGQRS_VALIDATION_FORBIDDEN_KEYS", " password, card_number,")
    rules = Config(validation={"max_string_length": 1}).validation
    assert (rules.max_string_length, rules.max_depth) == (1, 3)
    assert rules.forbidden_keys == {"password", "card_number"}
    assert rules.required_keys == {"tenant", "on"}
    assert Config.from_file(path).validation.forbidden_keys == {"file"}
    assert Config.from_env(dsn=DSN).validation.max_string_length == 2
    assert Config.from_dsn(DSN).validation == ValidationConfig()
    monkeypatch.setenv("PGQRS_VALIDATION_FORBIDDEN_KEYS", "")
    assert Config().validation.forbidden_keys == frozenset()


def test_rules_of_validation_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ValidationConfig is all of the rules: those of weaker sources are not mixed in."""
    monkeypatch.setenv("PGQRS_VALIDATION_MAX_DEPTH", "2")
    rules = ValidationConfig(forbidden_keys=["a", "b"])
    config = Config(validation=rules)
    assert config.validation == rules
    assert config == Config(validation=ValidationConfig(forbidden_keys={"b", "a"}))
    assert hash(config) == hash(Config(validation=rules))
    assert Config.from_file(write("empty.yaml", "host: h\nvalidation:")).validation != rules


def test_groups_in_code() -> None:
    """The groups are for code too."""
    config = Config(database={"host": "h", "max_connections": 3}, queue={"max_attempts": 2})
    assert (config.url.host, config.max_connections, config.max_attempts) == ("h", 3, 2)


def test_which_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path given, else PGQRS_CONFIG_FILE, else ./pgqrs.yaml, else ./pgqrs.yml."""
    dsn = "dsn: postgresql://h/"
    write("pgqrs.yml", f"{dsn}yml")
    assert Config.load().url.database == "yml"
    write("pgqrs.yaml", f"{dsn}yaml")
    assert Config.load().url.database == "yaml"
    monkeypatch.setenv("PGQRS_CONFIG_FILE", str(write("named", f"{dsn}named")))
    assert Config.load().url.database == "named"
    assert Config().url.database == "named"
    assert Config.load(path=write("given", f"{dsn}given")).url.database == "given"


def test_bare_dsn_as_bind_reads_the_rest(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    """A DSN given to a class names the database; the environment is read for the other keys."""
    monkeypatch.setenv("PGQRS_DSN", "postgresql://elsewhere/other")
    monkeypatch.setenv("PGQRS_MAX_BATCH_SIZE", "2")
    with Admin(dsn) as admin, Producer(dsn, "q") as producer, Consumer(dsn, "q") as consumer:
        admin.create_queue("q")
        producer.batch_enqueue([1, 2, 3])
        assert len(consumer.dequeue_batch(3)) == 2


def test_a_file_in_groups_with_every_kind_of_key() -> None:
    """The form of the project's first description is read as it is written there."""
    path = write(
        "full.yaml",
        """
        database:
          host: localhost
          port: 5432
          username: postgres
          password: postgres
          database: myapp
          schema: pgqrs
          max_connections: 10
          connection_timeout_seconds: 30
        queue:
          default_lock_time_seconds: 5
          max_batch_size: 100
          enable_listen_notify: true
          cleanup_interval_seconds: 300
        performance:
          prefetch_count: 10
          connection_pool_size: 10
          query_timeout_seconds: 30
        """,
    )
    config = Config.from_file(path)
    assert config.url.database == "myapp"
    assert (config.default_lock_time_seconds, config.cleanup_interval_seconds) == (5, 300)
