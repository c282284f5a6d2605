"""The commands for single messages, the archive and dead letter queues."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest

from pgqrs import Admin, Consumer, Producer
from pgqrs.new_message import MessageOptions, MoreOptions

Line = Callable[..., tuple[int, str, str]]
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _queues(admin: Admin) -> None:
    admin.create_queue("letters")
    admin.create_queue("work", dead_letter="letters", max_attempts=1)


def made(admin: Admin, queue: str = "work") -> int:
    with Producer(admin, queue) as producer:
        return producer.enqueue({"a": 1}).id


def killed(admin: Admin) -> int:
    made(admin)
    with Consumer(admin, "work") as consumer:
        message = consumer.dequeue()
        assert message is not None
        assert consumer.fail(message, "the printer is on fire")
        return message.id


def test_a_message_is_shown_wherever_it_is(line: Line, ask: Ask, admin: Admin) -> None:
    """Its state and all that is kept of it, as a table or as JSON."""
    key = made(admin)
    shown = ask("message", "show", key)
    assert (shown["state"], shown["payload"], shown["queue_name"]) == ("created", {"a": 1}, "work")
    admin.archive_messages(key)
    assert ask("message", "show", key)["state"] == "completed"
    new = admin.replay(key)
    _, table, _ = line("message", "show", new.id)
    assert f'{{"pgqrs": {{"replay_of": {key}}}}}' in table
    status, out, complaints = line("message", "show", 999)
    assert (status, out) == (1, "")
    assert complaints == "error: there is no message 999\n"


@pytest.mark.parametrize(
    ("command", "then", "prepare", "state"),
    [
        ("cancel", "cancelled", made, "cancelled"),
        ("retry", "retried", killed, "retry"),
    ],
)
def test_messages_are_decided_on(
    command: str,
    then: str,
    prepare: Callable[[Admin], int],
    state: str,
    line: Line,
    ask: Ask,
    admin: Admin,
) -> None:
    """One or several ids; of several it says which, and the status is 1 unless all were done."""
    one, two = prepare(admin), prepare(admin)
    assert ask("message", command, one) == [{"id": one, then: True}]
    assert admin.get_message(one).state == state
    status, out, _ = line("message", command, one, two, "--format", "json")
    assert status == 1
    assert json.loads(out) == [{"id": one, then: False}, {"id": two, then: True}]
    status, out, complaints = line("message", command, one)
    assert (status, out) == (1, "")
    assert f"error: message {one} is {state}" in complaints


def test_a_cancelled_message_is_resumed(line: Line, admin: Admin) -> None:
    """It waits again; the table says so."""
    key = made(admin)
    admin.cancel_messages(key)
    status, out, _ = line("message", "resume", key)
    assert status == 0
    assert [str(key), "yes"] in [row.split() for row in out.splitlines()]
    assert admin.get_message(key).state == "created"


def test_the_archive_is_listed_by_status(line: Line, ask: Ask, admin: Admin) -> None:
    """The newest first, of one status or of all."""
    dead, done = killed(admin), made(admin)
    admin.archive_messages(done)
    assert [each["id"] for each in ask("archive", "list", "work")] == [done, dead]
    (found,) = ask("archive", "list", "work", "--status", "dead")
    assert (found["id"], found["error"]) == (dead, "the printer is on fire")
    (found,) = ask("archive", "list", "work", "--status", "completed")
    assert found["id"] == done
    assert len(ask("archive", "list", "work", "--limit", 1, "--offset", 1)) == 1
    _, table, _ = line("archive", "list", "work", "--status", "dead")
    assert "printer" in table
    assert line("archive", "list", "work", "--status", "skipped")[1] == "nothing is archived\n"
    assert line("archive", "list", "nobody")[0] == 1


def test_archived_messages_are_replayed(line: Line, ask: Ask, admin: Admin) -> None:
    """New ids beside the old; the status is 1 unless all were replayed."""
    dead = killed(admin)
    ((old, new),) = [tuple(each.values()) for each in ask("archive", "replay", dead)]
    assert (old, admin.get_message(new).headers) == (dead, {"pgqrs": {"replay_of": dead}})
    status, out, _ = line("archive", "replay", dead, new, "--format", "json")
    assert status == 1
    assert [each["replayed_as"] is None for each in json.loads(out)] == [False, True]
    status, _, complaints = line("archive", "replay", new)
    assert status == 1
    assert "does not allow it to be replayed" in complaints


def test_dead_letters_are_listed_and_sent_back(line: Line, ask: Ask, admin: Admin) -> None:
    """Each says where it died and as which message; sent back they wait there again."""
    dead = [killed(admin), killed(admin)]
    letters = ask("dlq", "list", "letters")
    assert [(each["died_in"], each["died_as"]) for each in letters] == [("work", n) for n in dead]
    assert {each["error"] for each in letters} == {"the printer is on fire"}
    by_hand = made(admin, "letters")
    _, table, _ = line("dlq", "list", "letters")
    assert table.count("work") == 2
    assert str(by_hand) in table
    assert ask("dlq", "replay", "letters", "--limit", 1) == {"queue_name": "letters", "replayed": 1}
    assert line("dlq", "replay", "letters")[1] == "1 dead letter moved back\n"
    assert len(admin.messages("work")) == 2
    assert ask("dlq", "list", "work")[0]["died_in"] is None


def test_only_a_dead_letter_queue_is_purged(
    line: Line, ask: Ask, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks first, and refuses a queue that is nobody's dead letter queue."""
    killed(admin)
    made(admin)
    status, _, complaints = line("dlq", "purge", "work", "--yes")
    assert status == 1
    assert "nobody's dead letter queue" in complaints
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n")
    status, _, complaints = line("dlq", "purge", "letters")
    assert status == 1
    assert "nothing was changed" in complaints
    assert ask("dlq", "purge", "letters", "--yes") == {"queue_name": "letters", "deleted": 1}
    assert (admin.messages("letters"), len(admin.messages("work"))) == ([], 1)


def test_a_queue_gets_its_dead_letter_queue(line: Line, ask: Ask, admin: Admin) -> None:
    """At its creation or later; empty text takes it away."""
    created = ask("queue", "create", "more", "--dead-letter", "letters")
    assert created["dead_letter"] == "letters"
    assert ask("queue", "update", "more", "--dead-letter", "")["dead_letter"] is None
    assert ask("queue", "update", "more", "--dead-letter", "work")["dead_letter"] == "work"
    status, _, complaints = line("queue", "update", "more", "--dead-letter", "nowhere")
    assert status == 1
    assert "there is no queue 'nowhere'" in complaints
    assert line("queue", "update", "more", "--dead-letter", "more")[0] == 2
    status, _, complaints = line("queue", "delete", "letters", "--force", "--yes")
    assert status == 1
    assert "is the dead letter queue of 'work'" in complaints
    assert admin.get_queue("letters")


GIVEN = {
    "priority": (7, 7),
    "deliver_at": ("2030-01-31T09:00+01:00", "2030-01-31T08:00:00+00:00"),
    "max_attempts": (4, 4),
    "retry_delay": (9, 9.0),
    "retry_delay_max": (99, 99.0),
    "retry_backoff": ("--no-backoff", False),
    "expire_in": (60, 60.0),
    "retain_for": (3600, 3600.0),
    "dead_letter": ("letters", "letters"),
    "singleton_key": ("ada", "ada"),
    "singleton_for": (30, "ada"),
    "message_id": ("5f0c0b5e-1d1f-4a2e-9d4a-2f8f8c1d0a01", "5f0c0b5e-1d1f-4a2e-9d4a-2f8f8c1d0a01"),
    "headers": ("trace=a=b", {"trace": "a=b"}),
}
WHERE = {"deliver_at": "vt", "singleton_key": "key", "singleton_for": "window"}


def test_a_message_is_sent_with_any_option(line: Line, ask: Ask) -> None:
    """Each option of the library's has one, and arrives; `show` shows it."""
    words: list[object] = []
    for name, (word, _) in GIVEN.items():
        flag = {"headers": "--header"}.get(name, f"--{name.replace('_', '-')}")
        words += [word] if name == "retry_backoff" else [flag, word]
    sent = ask("message", "send", "work", "1", *words)
    shown = ask("message", "show", sent["id"])
    shown |= shown["options"]
    shown["vt"] = dt.datetime.fromisoformat(shown["vt"]).astimezone(dt.UTC).isoformat()
    found = {name: shown[WHERE.get(name, name)] for name in GIVEN}
    assert found == {name: kept for name, (_, kept) in GIVEN.items()}
    library = MessageOptions.__annotations__ | MoreOptions.__annotations__
    assert GIVEN.keys() | {"delay", "ordering_key"} == library.keys()
    _, table, _ = line("message", "show", sent["id"])
    assert '"expire_in": 60.0' in table


def test_a_message_that_is_kept_out(line: Line, ask: Ask) -> None:
    """An error, and with --skip-conflict none; bad values are errors of usage."""
    assert ask("queue", "create", "fifo", "--policy", "fifo")["policy"] == "fifo"
    assert ask("queue", "list")[0]["policy"] == "fifo"
    assert "fifo" in line("queue", "get", "fifo")[1]
    assert ask("message", "send", "fifo", "1", "--ordering-key", "k", "--delay", 60)["key"] == "k"
    window = ("message", "send", "work", "1", "--singleton-for", 60)
    assert ask(*window)["id"] > 0
    status, out, complaints = line(*window)
    assert (status, out) == (1, "")
    assert "window" in complaints
    assert ask(*window, "--skip-conflict") == {"queue_name": "work", "id": None}
    assert line(*window, "--skip-conflict")[1] == "another message keeps it out\n"
    for bad in (("--header", "x"), ("--deliver-at", "soon"), ("--message-id", "17")):
        assert line("message", "send", "work", "1", *bad)[0] == 2
    assert line("queue", "create", "other", "--policy", "none")[0] == 2
