"""What is no setting, or a bad one: errors that name the key and its source, and hide secrets."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from settings import DSN, leave_nothing_around, write
from sqlalchemy import URL

from pgqrs import (
    Admin,
    Config,
    ConfigError,
    InvalidConfigError,
    MissingConfigError,
    PgqrsError,
)


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    leave_nothing_around(monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dsn", "mysql://ann:s3cret@h/d"),
        ("dsn", "host=h password=s3cret"),
        ("dsn", "postgresql://ann:s3cret@h:port/d"),
        ("dsn", ["s3cret"]),
        ("password", ["s3cret"]),
        ("port", "http"),
        ("port", 70000),
        ("host", None),
        ("max_connections", 2),
        ("connection_pool_size", 0),
        ("connection_timeout_seconds", float("nan")),
        ("query_timeout_seconds", 0),
        ("query_timeout_seconds", float("inf")),
        ("default_lock_time_seconds", -1),
        ("max_attempts", 2.5),
        ("pooler", "perhaps"),
        ("schema", 'a"; drop schema public; --'),
        ("max_enqueue_per_second", 0),
        ("max_enqueue_per_second", float("inf")),
        ("max_enqueue_burst", 5),
        ("no_such_key", 1),
    ],
)
def test_bad_value_is_refused(key: str, value: Any) -> None:
    """A bad value or unknown key is an error that names the key and where it came from."""
    with pytest.raises(InvalidConfigError, match="from argument is not valid") as caught:
        Config(**{key: value})
    assert (caught.value.field, caught.value.source) == (key, "argument")
    assert repr(key) in str(caught.value)
    assert isinstance(caught.value, ConfigError | ValueError)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value, limit=0))


def test_bad_value_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The source of a bad value is the one it was taken from."""
    monkeypatch.setenv("PGQRS_PORT", "http")
    with pytest.raises(InvalidConfigError, match="'port' from environment"):
        Config()
    assert Config(port=5).url.port == 5
    monkeypatch.delenv("PGQRS_PORT")
    path = write("bad.yaml", "dsn: postgresql://h/d\nqueue: {max_atempts: 3}")
    with pytest.raises(InvalidConfigError, match=r"'max_atempts' from file bad\.yaml") as caught:
        Config.from_file(path)
    assert "no such setting" in str(caught.value)


@pytest.mark.parametrize(
    ("rules", "field", "reason"),
    [
        ({"max_depth": 0}, "validation.max_depth", "greater than or equal to 1"),
        ({"max_depth": 201}, "validation.max_depth", "less than or equal to 200"),
        ({"max_string_length": -1}, "validation.max_string_length", "greater than"),
        ({"max_string_length": "long"}, "validation.max_string_length", "integer"),
        ({"forbidden_keys": 5}, "validation.forbidden_keys", "list of keys"),
        ({"forbidden_keys": [["s3cret"]]}, "validation.forbidden_keys", "list of keys"),
        ({"required_keys": ["a", 1]}, "validation.required_keys", "list of keys"),
        ({"forbidden_keys": "a,b", "required_keys": "b"}, "validation.required_keys", "'b' is in"),
        ({"max_dept": 1}, "validation.max_dept", "no such setting"),
        ({1: 2}, "validation.1", "no such setting"),
        ("max_depth", "validation", "dictionary"),
    ],
)
def test_bad_rule_is_refused(rules: Any, field: str, reason: str) -> None:
    """A bad rule of validation is named with its group, whichever the source."""
    with pytest.raises(InvalidConfigError, match=reason) as caught:
        Config.from_dsn(DSN, validation=rules)
    assert (caught.value.field, caught.value.source) == (field, "argument")
    assert "s3cret" not in str(caught.value)


def test_bad_rule_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule remembers where it came from, beside rules of other sources."""
    monkeypatch.setenv("PGQRS_VALIDATION_MAX_DEPTH", "deep")
    write("pgqrs.yaml", "validation: {max_string_length: long}")
    with pytest.raises(InvalidConfigError, match=r"'validation\.max_depth' from environment"):
        Config(validation={"max_string_length": 5})
    with pytest.raises(InvalidConfigError, match=r"'validation\.max_string_length' from file"):
        Config(validation={"max_depth": 5})
    assert Config(validation={"max_depth": 5, "max_string_length": 5}).validation.max_depth == 5
    monkeypatch.setenv("PGQRS_VALIDATION", "max_depth=5")
    with pytest.raises(InvalidConfigError, match=r"'validation' from environment"):
        Config()


def test_unknown_key_beside_known_ones() -> None:
    """One unknown key is enough, wherever it stands."""
    with pytest.raises(InvalidConfigError, match="'shema'"):
        Config.from_dsn(DSN, shema="x")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('dsn: "postgresql://ann:s3cret@h/d\nmax_attempts: 3', "not YAML"),
        ("password: s3cret: [", "not YAML"),
        ("- s3cret", "no mapping"),
        ("postgresql://ann:s3cret@h/d", "no mapping"),
        ("max_attempts: 3\nqueue: {max_attempts: 4}", "'max_attempts'.*given twice"),
        ("schema: a\nschema_: b", "'schema'.*given twice"),
        ("1: 2", "'1'"),
        ("database: {host: h, hots: x}", "'hots'"),
        ("queue: 5", "'queue'"),
    ],
)
def test_bad_file_is_refused(content: str, reason: str) -> None:
    """A file that is no YAML mapping, or says a thing twice, is an error naming the file."""
    path = write("bad.yaml", content)
    with pytest.raises(InvalidConfigError, match=reason) as caught:
        Config.from_file(path)
    assert caught.value.source == "file bad.yaml"
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_file_that_is_not_text() -> None:
    """A file in another encoding is not YAML to us, and nothing worse."""
    Path("bad.yaml").write_bytes(b"dsn: \xff\xfe")
    with pytest.raises(InvalidConfigError, match="not YAML"):
        Config.from_file("bad.yaml")


def test_missing_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that was asked for and is not there is an error naming it, however it was named."""
    with pytest.raises(MissingConfigError, match=r"no\.yaml.*No such file"):
        Config.from_file("no.yaml")
    with pytest.raises(MissingConfigError, match=r"no\.yaml"):
        Config.load(DSN, path="no.yaml")
    monkeypatch.setenv("PGQRS_CONFIG_FILE", str(tmp_path))
    with pytest.raises(MissingConfigError, match="cannot be read"):
        Config()


def test_missing_database_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no source names a database, the error lists the sources and the ways out."""
    with pytest.raises(MissingConfigError) as caught:
        Config.load(schema="only")
    for place in ("argument", "environment", "pgqrs.yaml", "pgqrs.yml", "DATABASE_URL"):
        assert place in str(caught.value)
    with pytest.raises(MissingConfigError, match="environment"):
        Config.from_env()
    with pytest.raises(MissingConfigError, match=r"file some\.yaml"):
        Config.from_file(write("some.yaml", "max_attempts: 3"))
    with pytest.raises(MissingConfigError):
        Config.from_file(write("empty.yaml", ""))
    monkeypatch.setenv("PGQRS_DATABASE", "app")
    assert Config.load().url.database == "app"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "1a",
        "a b",
        "a.b",
        "a-b",
        "é",
        'a"b',
        '"a"',
        "a'b",
        "a;b",
        "a\n",
        "a\x00",
        "a" * 64,
        "pg_queue",
        "PG_queue",
        "a/*",
    ],
)
def test_schema_is_a_plain_identifier(name: str) -> None:
    """A schema name that would need quoting, or that PostgreSQL keeps for itself, is refused."""
    with pytest.raises(InvalidConfigError, match="'schema'"):
        Config.from_dsn(DSN, schema=name)


@pytest.mark.parametrize("name", ["a", "_a1", "Mixed", "select", "a" * 63])
def test_schema_may_be_any_plain_name(name: str) -> None:
    """A plain name is fine, though it be a keyword or in capitals; `schema_` is the same key."""
    assert Config.from_dsn(DSN, schema=name).schema_ == name
    assert Config.from_dsn(DSN, schema_=name).schema_ == name


@pytest.mark.parametrize(
    "config",
    [
        Config.from_dsn(DSN),
        Config.from_dsn("postgresql://db.example/app?password=s3cret"),
        Config.from_dsn("postgresql://db.example/app", password="s3cret"),
        Config.from_dsn("postgresql://ann@db.example/app", password="s3cret"),
    ],
)
def test_password_is_hidden(config: Config) -> None:
    """A password is in no repr, str or dump: of the configuration, its URL or its engine."""
    assert config.url.password == "s3cret"
    with Admin(config) as admin:
        shown = [config, config.url, admin.pool, admin.pool.url, config.model_dump()]
        for thing in shown:
            assert "s3cret" not in f"{thing!r} {thing!s}"


def test_password_is_in_no_error(url: URL) -> None:
    """A login that fails, or a server that is away, shows no password in the whole traceback."""
    dsns = [
        url.set(password="s3cret", database="no_such_database"),
        url.set(password="s3cret", host="127.0.0.1", port=1, query={}),
    ]
    for dsn in dsns:
        config = Config.from_dsn(dsn.render_as_string(hide_password=False))
        with Admin(config) as admin, pytest.raises(PgqrsError) as caught:
            admin.list_queues()
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("dsn", "why"),
    [
        ("postgresql://me/s3cr3t@host/db", "is written %2F or %40"),
        ("postgresql:///:s3cr3t@:/", "is written %2F or %40"),
        ("postgresql://me:x@s3cr3t@127.0.0.1/db", "is written %2F or %40"),
        ("postgresql://me:s3cr3t@host/db?x=\ud800", "not a URL"),
        ("\ud800", "not a URL"),
    ],
)
def test_a_dsn_that_would_show_its_password_or_cannot_be_sent(dsn: str, why: str) -> None:
    """It is refused, and nothing of it is shown."""
    for setting in ("dsn", "listen_dsn"):
        with pytest.raises(InvalidConfigError, match=why) as caught:
            Config(**{"dsn": "postgresql://host/db", setting: dsn})
        assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("host", ["postgresql://me:s3cr3t@:/", "a/b", "x?y", "me@there", "\ud800"])
def test_a_host_that_would_make_another_dsn(host: str) -> None:
    """It is told at once, not when somebody connects, and not taken for a user or a database."""
    with pytest.raises(
        InvalidConfigError, match=r"setting 'host' from .* put into the dsn"
    ) as caught:
        Config(dsn="postgresql://there/db", host=host)
    assert "s3cr3t" not in str(caught.value)


def test_a_password_given_twice_is_hidden() -> None:
    """The last one counts, as for libpq."""
    config = Config.from_dsn("postgresql://me@host/db?password=s3cr3t&password=s3cr3t2")
    assert config.url.password == "s3cr3t2"
    assert "s3cr3t" not in repr(config.url)
