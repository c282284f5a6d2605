"""Messages that one command read, and later ones end; sending many; reading as they come."""

from __future__ import annotations

import codecs
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli import COMMAND, environment, in_a_terminal, wait_for_line
from waiting import until

from pgqrs import Admin, Consumer, Producer
from pgqrs.handover import Handover, Lease, lease_of

Line = Callable[..., tuple[int, str, str]]
Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def _queue(admin: Admin) -> None:
    admin.create_queue("q")


def add(admin: Admin, *payloads: Any) -> list[int]:
    with Producer(admin, "q") as producer:
        return [message.id for message in producer.batch_enqueue(payloads)]


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.matrix
def test_what_was_read_is_ended_by_a_later_command(ask: Ask, line: Line, admin: Admin) -> None:
    """By its id, as the reader has stopped, or by the lease that was printed."""
    ids = add(admin, 1, 2, 3, 4, 5)
    read = ask("message", "read", "q", "--count", 4, "--lock-time", 600)
    assert [message["lease"].split(":")[0] for message in read] == [str(key) for key in ids[:4]]
    (told,) = ask("message", "archive", "q", ids[0])
    assert told == {"id": ids[0], "archived": True, "why_not": None}
    assert admin.get_message(ids[0]).status == "completed"
    assert ask("message", "extend", "q", read[1]["lease"], "--by", 900)[0]["extended"]
    ask("message", "release", "q", read[2]["lease"])
    status, out, _ = line("message", "delete", "q", read[1]["lease"], ids[3], ids[4], "--yes")
    assert (status, out.count("yes")) == (0, 3)
    assert ask("message", "count", "q") == {"queue_name": "q", "count": 1}
    released = admin.get_message(ids[2])
    assert (released.state, released.attempts) == ("created", 0)
    assert line("message", "count", "q")[1] == "1\n"


@pytest.mark.matrix
def test_a_lease_is_a_fence(ask: Ask, line: Line, admin: Admin) -> None:
    """Of a message that was read again since, the first lease ends nothing; the second does."""
    (key,) = add(admin, 1)
    first = ask("message", "read", "q", "--lock-time", 0)[0]["lease"]
    second = ask("message", "read", "q", "--lock-time", 600)[0]["lease"]
    for command in ("archive", "release"):
        status, out, complaints = line("message", command, "q", first)
        assert (status, out) == (1, "")
        assert f"message {key} is not held under the lease {first} any more" in complaints
    assert line("message", "archive", "q", second)[0] == 0
    status, _, complaints = line("message", "archive", "q", second)
    assert status == 1
    assert f"message {key} is completed already, and cannot be archived" in complaints


@pytest.mark.matrix
def test_a_living_holder_is_not_bereft(line: Line, ask: Ask, admin: Admin) -> None:
    """An id alone is refused then, with the lease to name; `--force` takes it all the same."""
    one, other, waiting = add(admin, 1, 2, 3)
    with Consumer(admin, "q") as consumer:
        leases = [lease_of(message) for message in consumer.dequeue_batch(2)]
        status, _, complaints = line("message", "archive", "q", one)
        assert status == 1
        assert f"name its lease, as {leases[0]}, to say that it is yours" in complaints
        status, out, _ = line("message", "archive", "q", one, waiting, 999, "--format", "json")
        assert status == 1
        done = [(each["archived"], each["why_not"]) for each in json.loads(out)]
        assert [was for was, _ in done] == [False, True, False]
        assert done[2][1] == "there is no message 999"
        assert ask("message", "archive", "q", leases[0])[0]["archived"]
        assert ask("message", "delete", "q", other, "--force", "--yes")[0]["deleted"]
        assert consumer.archive_batch([one, other]) == [False, False]
    status, _, complaints = line("message", "extend", "q", add(admin, 4)[0], "--by", 5)
    assert status == 1
    assert "is held by nobody, and cannot be extended" in complaints


def test_queue_is_checked(line: Line, admin: Admin) -> None:
    """A message of another queue, a queue that is not there, and a name that is none."""
    (key,) = add(admin, 1)
    admin.create_queue("other")
    for words, status, part in (
        (("other", key), 1, f"message {key} is in queue 'q', not in 'other'"),
        (("nobody", key), 1, "there is no queue 'nobody'"),
        (("q", "seven"), 2, "named by its id or as ID:WORKER:READ_COUNT: 'seven'"),
        (("q", "1:2"), 2, "named by its id"),
    ):
        found, out, complaints = line("message", "archive", *words)
        assert (found, out) == (status, "")
        assert part in " ".join(complaints.split())
    assert line("message", "count", "nobody")[0] == 1
    assert admin.queue_metrics("q").pending == 1


def test_names_come_by_lines_too(line: Line, admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input; deleting asks, and without an answer nothing is changed."""
    ids = add(admin, 1, 2, 3)
    type_in(monkeypatch, f"{ids[0]}\n {ids[1]} \n")
    assert line("message", "archive", "q", "-")[0] == 0
    assert admin.queue_metrics("q").archived == 2
    type_in(monkeypatch, "")
    status, _, complaints = line("message", "delete", "q", ids[2])
    assert status == 1
    assert "delete 1 message of queue 'q'? [y/N]" in complaints
    assert admin.queue_metrics("q").pending == 1


def test_handover_in_code(admin: Admin) -> None:
    """Beneath the commands: outcomes in order, repeated names done once."""
    one, two = add(admin, 1, 2)
    with Consumer(admin, "q") as consumer, Handover(admin, "q") as over:
        message = consumer.dequeue()
        assert message is not None
        lease = Lease.parse(str(lease_of(message)))
        assert over.archive([lease, lease, Lease(two)]) == [None, None, None]
        assert (admin.get_message(one).state, admin.get_message(two).state) == ("completed",) * 2


def test_payload_from_a_file_or_standard_input(
    line: Line, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly one source; what is no JSON is an error, and a file that is not there is usage."""
    path = tmp_path / "payload.json"
    path.write_text('{"from": "file"}\n')
    assert ask("message", "send", "q", "--file", path)["payload"] == {"from": "file"}
    type_in(monkeypatch, "[1]")
    assert ask("message", "send", "q", "-", "--priority", 3)["priority"] == 3
    for words, status, part in (
        ((), 2, "give the payload, or - for standard input, or --file"),
        (("1", "--file", path), 2, "give the payload, or -"),
        (("--file", tmp_path / "nope"), 2, "cannot be read: No such file"),
        (("{bad",), 1, "the payload is not JSON text"),
    ):
        found, out, complaints = line("message", "send", "q", *words)
        assert (found, out) == (status, "")
        assert part in " ".join(complaints.split())


def test_lines_are_messages(
    line: Line, ask: Ask, admin: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches that are each a commit; blank lines are none, and a bad one is named."""
    path = tmp_path / "many.ndjson"
    path.write_text("".join(f'{{"n": {n}}}\n\n' for n in range(2500)))
    sent = ask("message", "send", "q", "--file", path, "--ndjson", "--priority", 2)
    assert sent == {"queue_name": "q", "sent": 2500}
    assert {message.priority for message in admin.messages("q")} == {2}
    type_in(monkeypatch, "1\n" * 1001 + "\n{bad\n2\n")
    status, out, complaints = line("message", "send", "q", "-", "--ndjson")
    assert (status, out) == (1, "")
    said = " ".join(complaints.split())
    assert "1000 messages of the batch are enqueued, and then: line 1003 is not JSON text" in said
    assert admin.queue_metrics("q").pending == 3500
    path.write_bytes(codecs.BOM_UTF8 + b'\n\n{"a": 1}\n\nNaN\n')
    status, _, complaints = line("message", "send", "q", "--file", path, "--ndjson")
    assert (status, "line 5: payload contains NaN" in " ".join(complaints.split())) == (1, True)


def test_sending_many_shows_how_far_it_is(dsn: str, tmp_path: Path) -> None:
    """A person at a terminal sees a count, and at the end the sum."""
    path = tmp_path / "some.ndjson"
    path.write_text("1\n2\n3\n")
    shown = in_a_terminal(["message", "send", "q", "--file", str(path), "--ndjson", "--dsn", dsn])
    assert "sent" in shown.partition("/?")[0]
    assert "sent 3 messages" in shown


def test_following(dsn: str, admin: Admin, ask: Ask) -> None:
    """Each message is printed as it comes, with the lease by which it is ended; a signal is 0."""
    process = subprocess.Popen(
        [*COMMAND, "message", "read", "q", "--follow", "--lock-time", "600", "--format", "json"],
        env=environment(PGQRS_DSN=dsn),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        for payload in ({"n": 1}, {"n": 2}):
            (key,) = add(admin, payload)
            message = json.loads(wait_for_line(process.stdout))
            assert (message["id"], message["payload"]) == (key, payload)
            assert ask("message", "archive", "q", message["lease"])[0]["archived"]
    finally:
        process.send_signal(signal.SIGTERM)
        output, complaints = process.communicate(timeout=30)
    assert (process.returncode, output, complaints) == (0, "", "")
    until(lambda: all(worker.status == "stopped" for worker in admin.workers()))


def test_following_so_many(line: Line, admin: Admin) -> None:
    """With `--count` it ends by itself; in each format a line or an item a message."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    add(admin, *({"n": n} for n in range(8)))
    try:
        outputs = [
            line("message", "read", "q", "--follow", "--count", 2, "--format", form)[1]
            for form in ("table", "json", "yaml", "csv")
        ]
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
    headings, *rows = outputs[0].splitlines()
    assert headings.split()[:2] == ["id", "read_ct"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert [json.loads(row)["id"] for row in outputs[1].splitlines()] == [3, 4]
    assert outputs[2].count("- id: ") == 2
    assert outputs[3].startswith("id,")
    assert len(outputs[3].splitlines()) == 3


def test_ids_pass_through_pipes(dsn: str, admin: Admin) -> None:
    """What one process reads another archives, joined by a shell."""
    add(admin, 1, 2)
    pgqrs = f"{sys.executable} -m pgqrs"
    leases = "import json, sys; [print(m['lease']) for m in json.load(sys.stdin)]"
    script = (
        f'{pgqrs} message read q --count 2 --format json | {sys.executable} -c "{leases}"'
        f" | {pgqrs} message archive q -"
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, **environment(PGQRS_DSN=dsn)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert admin.queue_metrics("q").archived == 2
