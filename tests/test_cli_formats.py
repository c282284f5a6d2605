"""Results in each format, into a file, and what commands answer when they cannot."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cli import COMMAND, environment

from pgqrs import Admin, Producer
from pgqrs.cli import main

Line = Callable[..., tuple[int, str, str]]
Ask = Callable[..., Any]

EVERY = [
    ("metrics",),
    ("queue", "messages", "q"),
    ("queue", "metrics", "q"),
    ("message", "send", "q", "1"),
    ("message", "send", "q", "1", "--ndjson"),
    ("message", "read", "q"),
    ("message", "read", "q", "--follow"),
    ("message", "archive", "q", "1"),
    ("message", "delete", "q", "1", "--yes"),
    ("message", "release", "q", "1"),
    ("message", "extend", "q", "1", "--by", "5"),
    ("message", "count", "q"),
    ("archive", "show", "1"),
    ("archive", "list", "q"),
    ("archive", "export", "q"),
    ("archive", "purge", "--yes"),
    ("archive", "erase", "q", "1", "--yes"),
    ("worker", "list"),
    ("admin", "stats"),
    ("admin", "reclaim", "--yes"),
]


@pytest.fixture(autouse=True)
def _queue(admin: Admin) -> None:
    admin.create_queue("q")


def archived(admin: Admin, *payloads: Any) -> list[int]:
    with Producer(admin, "q") as producer:
        ids = [message.id for message in producer.batch_enqueue(payloads)]
    admin.archive_messages(ids)
    return ids


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_each_format_says_the_same(line: Line, ask: Ask, admin: Admin) -> None:
    """One thing, a list and an outcome, as JSON, YAML and CSV; tables are for people."""
    with Producer(admin, "q") as producer:
        producer.enqueue({"ä": [1, None], "text": 'a,"b"\nc'})
    for words in (("queue", "get", "q"), ("queue", "messages", "q"), ("message", "count", "q")):
        document = ask(*words)
        as_yaml = line(*words, "--format", "yaml")[1]
        assert yaml.safe_load(as_yaml) == document
        rows = table(line(*words, "--format", "csv")[1])
        records = document if isinstance(document, list) else [document]
        assert [list(row) for row in rows] == [list(record) for record in records]
        assert line(*words)[1] not in (as_yaml, json.dumps(document))
    (row,) = table(line("queue", "messages", "q", "--format", "csv")[1])
    (message,) = ask("queue", "messages", "q")
    assert json.loads(row["payload"]) == message["payload"] == {"ä": [1, None], "text": 'a,"b"\nc'}
    assert (row["id"], row["state"], row["dequeued_at"]) == (str(message["id"]), "created", "")
    assert row["enqueued_at"] == message["enqueued_at"]
    (queue,) = table(line("queue", "list", "--format", "csv")[1])
    assert (queue["paused"], queue["visibility_timeout"]) == ("false", "")


LISTS = (
    ("queue", "list"),
    ("metrics",),
    ("worker", "list"),
    ("worker", "health"),
    ("queue", "messages", "q"),
    ("dlq", "list", "q"),
    ("archive", "list", "q"),
    ("archive", "export", "q"),
    ("message", "read", "q"),
)


def test_a_csv_without_rows_has_the_heading_of_one_with_rows(line: Line, admin: Admin) -> None:
    """Whoever reads columns by name finds them all, whether there are rows or not."""

    def headings(*lists: tuple[str, ...]) -> list[str]:
        printed = [line(*words, "--format", "csv")[1].splitlines() for words in lists]
        assert all((len(lines) == 1) == empty for lines in printed)
        return [lines[0] for lines in printed]

    empty = True
    without = headings(*LISTS[4:])
    admin.delete_queue("q")
    without = headings(*LISTS[:4]) + without
    empty = False
    admin.create_queue("q")
    archived(admin, 1)
    with Producer(admin, "q") as producer:
        producer.enqueue(2)
        assert headings(*LISTS) == without


def test_results_go_into_a_file(line: Line, tmp_path: Path) -> None:
    """`--out` in each format, plain; nothing is made where there is no result."""
    path = tmp_path / "out"
    for form, begins in (("table", "id"), ("json", "{"), ("yaml", "id: "), ("csv", "id,queue_")):
        assert line("queue", "get", "q", "--format", form, "--out", path) == (0, "", "")
        assert path.read_text().startswith(begins)
    missing = tmp_path / "missing"
    assert line("queue", "get", "nobody", "--out", missing)[0] == 1
    assert line("archive", "export", "nobody", "--out", missing)[0] == 1
    assert not missing.exists()
    status, out, complaints = line("queue", "list", "--out", tmp_path / "no" / "folder")
    assert (status, out) == (1, "")
    assert "cannot be written: No such file or directory" in " ".join(complaints.split())


def test_metrics_and_sums(line: Line, ask: Ask, admin: Admin) -> None:
    """`metrics` is of all queues, `admin stats` the sum of them."""
    archived(admin, 1, 2)
    assert [(each["queue_name"], each["archived"]) for each in ask("metrics")] == [("q", 2)]
    assert ask("metrics") == ask("queue", "metrics")
    assert ask("metrics", "--exact")[0]["limit"] is None
    stats = ask("admin", "stats")
    assert (stats["queues"], stats["archived"], stats["total_messages"]) == (1, 2, 0)
    assert stats["by_queue"][0]["queue_name"] == "q"
    assert "ready workers" in line("admin", "stats", "--exact")[1]
    assert ask("admin", "reclaim", "--yes") == {"message_ids": []}


def test_one_of_the_archive(line: Line, ask: Ask, admin: Admin) -> None:
    """It is shown whole; one that still waits is not shown as archived."""
    (key,) = archived(admin, {"n": 1})
    shown = ask("archive", "show", key)
    assert (shown["status"], shown["payload"]) == ("completed", {"n": 1})
    with Producer(admin, "q") as producer:
        waiting = producer.enqueue(1).id
    status, out, complaints = line("archive", "show", waiting)
    assert (status, out) == (1, "")
    assert f"message {waiting} is not archived, but created" in complaints
    assert line("archive", "show", 999)[0] == 1


def test_history_is_exported(line: Line, admin: Admin, tmp_path: Path) -> None:
    """All of it, over many pages, as lines of JSON or CSV; of one status where asked."""
    ids = archived(admin, *({"n": n} for n in range(2100)))
    with Producer(admin, "q") as producer:
        failed = producer.enqueue(0).id
    admin.fail_messages(failed, "no")
    status, out, complaints = line("archive", "export", "q")
    lines = [json.loads(each) for each in out.splitlines()]
    assert (status, complaints) == (0, "")
    assert [message["id"] for message in lines] == [*ids, failed]
    assert lines[7]["payload"] == {"n": 7}
    path = tmp_path / "history.csv"
    assert line("archive", "export", "q", "--format", "csv", "--out", path)[0] == 0
    assert [int(row["id"]) for row in table(path.read_text())] == [*ids, failed]
    (only,) = line("archive", "export", "q", "--status", "failed")[1].splitlines()
    assert (json.loads(only)["id"], json.loads(only)["error"]) == (failed, "no")
    assert line("archive", "export", "q", "--format", "yaml")[0] == 2


def test_history_is_purged_and_erased(
    line: Line, ask: Ask, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ask first; by id, by payload, by age, of one queue or all."""
    ids = archived(admin, *({"user": n % 2} for n in range(6)))
    monkeypatch.setattr("sys.stdin", io.StringIO("n\nn\n"))
    for words in (("purge", "q"), ("erase", "q", ids[0])):
        status, _, complaints = line("archive", *words)
        assert status == 1
        assert "nothing was changed" in " ".join(complaints.split())
    assert ask("archive", "erase", "q", ids[0], ids[1], "--yes")["erased"] == 2
    assert ask("archive", "erase", "q", "--where", '{"user": 1}', "--yes")["erased"] == 2
    assert [message.id for message in admin.archived_after("q")] == [ids[2], ids[4]]
    for words, status, part in (
        ((), 2, "give ids or --where, and not both"),
        ((ids[2], "--where", "1"), 2, "give ids or --where"),
        (("--where", "{bad"), 1, "this is not JSON text"),
        (("--where", "{}", "--yes"), 2, "matches everything"),
    ):
        found, out, complaints = line("archive", "erase", "q", *words)
        assert (found, out) == (status, "")
        assert part in " ".join(complaints.split())
    assert ask("archive", "purge", "q", "--older-than", 60, "--yes")["deleted"] == 0
    assert ask("archive", "purge", "--yes") == {"queue_name": None, "deleted": 2}


def test_what_every_command_answers_when_it_cannot(line: Line) -> None:
    """3 where the server is away, 1 where there are no tables, in a sentence and nothing else."""
    for words in EVERY:
        for where, status, part in (
            (("--dsn", "postgresql://127.0.0.1:1/db"), 3, "cannot be reached"),
            (("--schema", "nothing_here"), 1, "run `pgqrs install`"),
        ):
            found, out, complaints = line(*words, *where)
            assert (found, out) == (status, ""), words
            assert complaints.startswith("error: "), words
            assert part in " ".join(complaints.split()), words


def test_shell_completes_commands(tmp_path: Path) -> None:
    """A shell is told the commands of a group, without a database."""
    words = {"_PGQRS_COMPLETE": "complete_bash", "COMP_WORDS": "pgqrs message ", "COMP_CWORD": "2"}
    program = "import sys; sys.argv[0] = 'pgqrs'; from pgqrs.cli import main; main()"
    done = subprocess.run(
        [COMMAND[0], "-c", program],
        env=environment(**words),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert {"send", "read", "archive", "extend", "count"} <= set(done.stdout.split())
    assert done.stderr == ""


def test_an_interrupt_while_loading_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C counts from the first moment, without a traceback."""

    class Interrupted:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == "pgqrs.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "pgqrs.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
