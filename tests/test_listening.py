"""How a waiting process finds out whether it hears, says so, and does without."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bouncer import PROGRAM, bouncer
from settings import shows
from sqlalchemy import URL, Engine, create_engine, text
from waiting import ask, until

from pgqrs import Admin, Config, Consumer, Producer, UnavailableError, listening
from pgqrs.ear import Ear, Waker
from pgqrs.limit import Limit

needs_bouncer = pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed")
SELDOM = 3600.0
LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"


@pytest.fixture(autouse=True)
def queue(admin: Admin) -> None:
    admin.create_queue("q")


class Said:
    """What was said of hearing."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.INFO, "pgqrs.run")

    def good(self) -> list[str]:
        return self._of(logging.INFO)

    def bad(self) -> list[str]:
        return self._of(logging.WARNING)

    def _of(self, level: int) -> list[str]:
        words = ("listening", "polling")
        said = [(r.levelno, r.getMessage()) for r in list(self._caplog.records)]
        return [line for at, line in said if at == level and line.startswith(words)]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    return Said(caplog)


@contextmanager
def running(config: Config) -> Iterator[list[Any]]:
    """Work the queue; gives what was handled."""
    seen: list[Any] = []
    with Consumer(config, "q") as consumer:
        work = threading.Thread(target=consumer.run, args=(lambda m: seen.append(m.payload),))
        work.start()
        try:
            yield seen
        finally:
            consumer.stop()
            work.join(20)


def assert_handled(config: Config, said: Callable[[], list[str]], sentence: str) -> None:
    """What was enqueued after the sentence was said is handled."""
    with running(config) as seen, Producer(config, "q") as producer:
        until(lambda: said() == [sentence])
        for number in range(3):
            producer.enqueue(number)
            until(lambda want=number + 1: len(seen) == want)
    assert seen == [0, 1, 2]


def test_on_a_direct_connection(dsn: str, said: Said) -> None:
    """It listens, and one sentence says so."""
    config = Config.from_dsn(dsn, poll_interval_seconds=SELDOM)
    sentence = "listening on a direct connection, and polling every 3600 s besides"
    assert_handled(config, said.good, sentence)


def test_turned_off(dsn: str, said: Said) -> None:
    """As it was asked for is no reason to warn."""
    config = Config.from_dsn(dsn, poll_interval_seconds=0.05, enable_listen_notify=False)
    assert_handled(config, said.good, "polling every 0.05 s only: enable_listen_notify is off")


@needs_bouncer
def test_behind_a_pooler(url: URL, said: Said) -> None:
    """Without a way around it there is one warning, and polling does it all."""
    with bouncer(url) as dsn:
        config = Config.from_dsn(dsn, pooler=True, poll_interval_seconds=0.05)
        sentence = "a pooler stands before the server, and listen_dsn is not set"
        assert_handled(config, said.bad, f"polling every 0.05 s only: {sentence}")


@needs_bouncer
@shows("listen_dsn")
def test_around_a_pooler(url: URL, dsn: str, said: Said) -> None:
    """With one, it listens there, and everything else goes through the pooler."""
    with bouncer(url) as pooled:
        config = Config.from_dsn(pooled, pooler=True, listen_dsn=dsn, poll_interval_seconds=SELDOM)
        sentence = "listening on the connection of listen_dsn, and polling every 3600 s besides"
        assert_handled(config, said.good, sentence)
        with Consumer(config, "q") as consumer, Producer(config, "q") as producer:
            threading.Timer(0.2, producer.enqueue, [7]).start()
            message = consumer.poll(timeout=20)
            assert message is not None


@needs_bouncer
@pytest.mark.parametrize(
    ("mode", "good", "sentence"),
    [
        (
            "transaction",
            False,
            "a pooler stands before the server and drops notifications: set listen_dsn",
        ),
        (
            "session",
            True,
            "a connection through a pooler that keeps sessions",
        ),
    ],
)
def test_behind_a_pooler_that_nobody_told_of(
    url: URL,
    said: Said,
    mode: str,
    good: bool,  # noqa: FBT001
    sentence: str,
) -> None:
    """It is found out by a notification to oneself, which arrives or does not."""
    with bouncer(url, mode, ignored="options", size=10) as dsn:  # more than connect to it
        config = Config.from_dsn(dsn, poll_interval_seconds=0.2, prefetch_count=0)
        listens = f"listening on {sentence}, and polling every 0.2 s besides"
        polls = f"polling every 0.2 s only: {sentence}"
        assert_handled(config, said.good if good else said.bad, listens if good else polls)


def test_a_listen_dsn_that_leads_elsewhere(
    url: URL, dsn: str, maintenance: Engine, said: Said
) -> None:
    """Another database never hears of the messages: that is found out too."""
    elsewhere = url.set(database=maintenance.url.database)
    config = Config.from_dsn(
        dsn,
        listen_dsn=elsewhere.render_as_string(hide_password=False),
        poll_interval_seconds=0.05,
    )
    sentence = "listen_dsn leads to another database, or to a pooler"
    assert_handled(config, said.bad, f"polling every 0.05 s only: {sentence}")


def test_a_listen_dsn_that_is_down_is_tried_again(
    url: URL, dsn: str, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It polls meanwhile, and listens when it can."""
    monkeypatch.setattr(listening, "_TRY_AGAIN", 0.1)
    name = f".s.PGSQL.{url.query.get('port', '5432')}"
    around = url.update_query_dict({"host": str(tmp_path)})
    config = Config.from_dsn(
        dsn,
        listen_dsn=around.render_as_string(hide_password=False),
        poll_interval_seconds=0.05,
    )
    with running(config) as seen, Producer(config, "q") as producer:
        producer.enqueue(1)
        until(lambda: seen == [1])
        (sentence,) = said.bad()
        assert sentence.startswith("polling every 0.05 s only: listen_dsn cannot be reached")
        (tmp_path / name).symlink_to(Path(str(url.query["host"])) / name)
        until(said.good)


def test_a_listener_that_is_killed_listens_again(dsn: str, engine: Engine, said: Said) -> None:
    """The connection that listens is made anew, and messages wake again."""
    config = Config.from_dsn(dsn, listen_dsn=dsn, poll_interval_seconds=SELDOM)
    listeners = f"SELECT count(*) FROM ({LISTENING} AND query LIKE 'LISTEN%') AS those"
    kill = f"SELECT count(pg_terminate_backend(pid)) FROM ({LISTENING} AND query LIKE 'LISTEN%') l"
    with running(config) as seen, Producer(config, "q") as producer:
        until(said.good)
        for number in range(3):
            until(lambda: ask(engine, listeners) == 1)
            assert ask(engine, kill) == 1
            producer.enqueue(number)
            until(lambda want=number + 1: len(seen) == want)


def test_a_server_that_forgot_is_noticed(dsn: str) -> None:
    """The check asks the server itself what is listened to."""
    engine = create_engine(Config.from_dsn(dsn).url, isolation_level="AUTOCOMMIT")
    waker, limit = Waker(), Limit(30)
    with engine.connect() as connection, Ear(connection, waker, limit) as ear:
        ear.listen(["a", "b"])
        ear.check()
        connection.execute(text("UNLISTEN b"))
        with pytest.raises(UnavailableError, match="forgot"):
            ear.check()
        connection.connection.driver_connection.pgconn.finish()
        with pytest.raises(UnavailableError, match="lost"), limit.over(connection):
            pytest.fail("there is no socket to watch")
        connection.invalidate()
    waker.close()
    limit.close()
    engine.dispose()
