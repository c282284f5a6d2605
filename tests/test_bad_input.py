"""Whatever is given as a value stays one: it is taken, or refused with an error of ours."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hostile import MARK, PLACES, TEXTS, Place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from pgqrs import Admin, Config, ConfigError, Consumer, PgqrsError, Producer, QueuePolicy
from pgqrs.cli.app import app

CATALOG = (
    "SELECT string_agg(oid::text || relname || relkind::text, ',' ORDER BY oid) FROM pg_class"
    " WHERE relnamespace IN ('pgqrs'::regnamespace, 'public'::regnamespace)"
)


class Watched:
    """A database with a canary, and the statements that are sent to it."""

    def __init__(self, admin: Admin, engine: Engine) -> None:
        self.admin = admin
        self.engine = engine
        admin.create_queue("q")
        for policy in QueuePolicy:
            if policy is not QueuePolicy.STANDARD:
                admin.create_queue(policy.value, policy=policy)
        self._ask("CREATE TABLE public.canary AS SELECT 1 AS alive")
        self.before = self._ask(CATALOG)
        self.sql: list[str] = []
        event.listen(admin.pool, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if MARK in statement:
            self.sql.append(statement)

    def _ask(self, query: str) -> Any:
        with self.engine.begin() as connection:
            found = connection.execute(text(query))
            return found.scalar() if found.returns_rows else None

    def try_at(self, place: Place, words: str) -> str | None:
        """Give what was wrong with how a text was taken or refused, if anything."""
        self.sql.clear()
        try:
            place(self.admin, words)
        except (PgqrsError, ValueError, TypeError) as error:
            plain = not isinstance(error, UnicodeError | SQLAlchemyError)
            if not plain or "[SQL" in str(error):
                return f"raised {error!r}"
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            return "".join(traceback.format_exception(error)[-3:])
        return f"in SQL: {self.sql[0]}" if self.sql else None

    def is_intact(self) -> bool:
        """Whether all tables are the ones that were there."""
        assert self._ask("SELECT alive FROM public.canary") == 1
        assert self.admin.verify() == []
        return bool(self._ask(CATALOG) == self.before)


@pytest.fixture
def watched(admin: Admin, engine: Engine) -> Iterator[Watched]:
    logging.getLogger("pgqrs").setLevel(logging.CRITICAL)
    yield Watched(admin, engine)
    logging.getLogger("pgqrs").setLevel(logging.NOTSET)


def few(name: str) -> list[str]:
    """Give three of the texts, others at each place."""
    start = sum(name.encode())
    return [TEXTS[(start + step) % len(TEXTS)] for step in (0, 3, 7)]


def all_of(_: str) -> list[str]:
    return list(TEXTS)


@pytest.mark.parametrize(
    "chosen", [few, pytest.param(all_of, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_no_text_becomes_sql(watched: Watched, chosen: Callable[[str], list[str]]) -> None:
    """In no place: it is a parameter or it is refused, and the tables stay as they are."""
    wrong = {
        (name, words[:20]): found
        for name, place in PLACES.items()
        for words in chosen(name)
        if (found := watched.try_at(place, words))
    }
    assert not wrong
    assert watched.is_intact()


def counts(usual: int, long: int) -> Any:
    return pytest.mark.parametrize(
        "count", [usual, pytest.param(long, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
    )


def fuzzed(count: int, strategy: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Check so many examples."""
    health = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    how = settings(max_examples=count, deadline=None, database=None, suppress_health_check=health)
    how(given(strategy)(check))()


def shown_by(error: BaseException) -> str:
    """Give all that a traceback shows, but for the source."""
    return re.sub(r'  File "[^"]*".*\n.*\n', "", "".join(traceback.format_exception(error)))


SECRET = uuid.uuid4().hex  # no literal: Hypothesis would try it elsewhere
TRICKS = (
    *("", "%", "%zz", "[::1", "]", "@", ":", "/", "//", "?", "#", "\\", "\0", "\ud800", "'", '"'),
    *(" ", "host=evil", "1.2.3.4,5.6.7.8", "65536", "-1", "0x10", "%2F", "\n"),
)
JUNK = st.text(max_size=12) | st.sampled_from(TRICKS)
PARTS = ("host", "port", "user", "password", "dbname", "sslmode", "options", "service")
WORDS = st.sampled_from(PARTS)
QUERIES = JUNK | st.builds("{}={}".format, JUNK | WORDS, JUNK)
SCHEMES = st.sampled_from(["postgresql", "postgres", "postgresql+psycopg", "mysql", ""])
DSNS = st.builds(
    f"{{}}://{{}}:{SECRET}@{{}}:{{}}/{{}}?{{}}".format,
    *(SCHEMES, JUNK, JUNK, JUNK | st.integers(-1, 70000), JUNK, QUERIES),
)


@counts(60, 20_000)
def test_any_dsn_is_taken_or_refused_and_never_shown(count: int) -> None:
    """What is no DSN is a ConfigError; the password is in no repr, error or cause of one."""

    def check(dsn: str) -> None:
        for given_as in ("dsn", "listen_dsn"):
            try:
                config = Config.from_dsn(**{"dsn": "postgresql://h/d", given_as: dsn})
                shown = repr(config) + repr(config.url)
            except ConfigError as error:
                shown = shown_by(error)
            assert SECRET not in shown

    fuzzed(count, JUNK | DSNS, check)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
THINGS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*Config.model_fields, "schema", "database", "queue", "performance", "name"])
FILES = (
    st.text("{}[]:,-&*!|>'\"%@`#? \nabc01~<=\t", max_size=40).map(str.encode)
    | st.binary(max_size=20)
    | st.dictionaries(KEYS, THINGS | DSNS, max_size=4).map(lambda v: yaml.dump(v).encode())
)


@counts(60, 20_000)
def test_any_file_is_taken_or_refused(tmp_path: Path, count: int) -> None:
    """Whatever is in a file of settings: a configuration, or a ConfigError."""
    file = tmp_path / "pgqrs.yaml"

    def check(content: bytes) -> None:
        file.write_bytes(content)
        with contextlib.suppress(ConfigError):
            assert Config.from_file(file).url.drivername == "postgresql+psycopg"

    fuzzed(count, FILES, check)


BLOCKING = {"top", "demo", "embedded", "run", "init", "uninstall"}
UNTRIED = {"--follow", "--listen", "--file", "--out", "--config", "--help", "--dsn"}
NUMBERS = ("1", "-1", "0", "9" * 20, "1.5", "nan", "inf", "1e400", "\u0663", "true", "-", "--", "")
OTHERS = ("q", "\udc80", "{}", "[]", "null", "NaN", '{"a":1}', "2030-01-01T00:00:00Z", "table")
SHORT = st.text(max_size=6).filter(lambda word: "\0" not in word)
VALUES = SHORT | st.sampled_from((*TEXTS, *NUMBERS, *OTHERS))


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every command that ends by itself and touches no files."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
    for name, each in (below or {}).items():
        if name not in BLOCKING:
            yield from leaves(each, (*path, name))


COMMANDS = sorted(leaves(typer.main.get_command(app)), key=lambda leaf: leaf[0])


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    path, command = draw(st.sampled_from(COMMANDS))
    words = [*path]
    for each in command.params:
        if each.param_type_name == "argument":
            words += draw(st.lists(VALUES, min_size=draw(st.integers(0, 9)) > 0, max_size=2))
        elif (names := set(each.opts) - UNTRIED) and draw(st.integers(0, 3)) == 0:
            words += [max(names), *([] if each.is_flag else [draw(VALUES)])]
    return words


@counts(25, 3000)
def test_any_command_line_ends_with_a_status(
    watched: Watched,
    line: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    """Done, or an error in a sentence; never a traceback, and the tables stay as they are."""

    def check(words: list[str]) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"y\n{}\n")))
        status, out, complaint = line(*words)
        assert status in (0, 1, 2, 3)
        assert not status or out or complaint
        assert "Traceback" not in complaint
        assert "[SQL" not in complaint

    fuzzed(count, lines(), check)
    assert watched.admin.verify() == []


@counts(10, 500)
def test_a_name_is_taken_whole_or_refused(admin: Admin, count: int) -> None:
    """A queue is found again by exactly its name, with its views; any other name is refused."""
    tricks = st.text("aZ9_.:/-\"'`;$%\\\0 \nä\u0661", min_size=1, max_size=66)
    reserved = st.sampled_from(["select", "NULL", "pg_class", "1", "a:b", "a.b", "a-b", "A/b", "_"])

    def check(name: str) -> None:
        try:
            made = admin.create_queue(name, views=True)
        except ValueError:
            assert not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,60}", name)
            return
        with Producer(admin, name) as producer, Consumer(admin, name) as consumer:
            sent = producer.enqueue(1)
            held = consumer.dequeue()
            assert held is not None
            assert held.id == sent.id
        with admin.pool.connect() as connection:
            view = connection.dialect.identifier_preparer.quote_identifier(f"q_{name}")
            (row,) = connection.exec_driver_sql(f"SELECT id FROM pgqrs.{view}")
        assert row.id == sent.id
        assert [queue.queue_name for queue in admin.list_queues()] == [made.queue_name] == [name]
        admin.delete_queue(name, force=True)

    fuzzed(count, tricks | reserved, check)
