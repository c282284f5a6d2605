"""What a release sends to the server, kept so that later schemas can be held against it.

Run within a checkout of a release, with an empty database of its own, before the next revision
comes in: ``python tests/recording.py DSN > tests/recordings/<its newest revision>.json``. Every
statement of a life of queues is there once, then each call with its parameters and how many rows
it was about.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import socket
import sys
import uuid
from typing import Any

from sqlalchemy import Connection, Engine, event, text

import pgqrs
from pgqrs import Admin, Config, Consumer, Producer

STATE = [
    f"SELECT {columns} FROM pgqrs.pgqrs_{table} ORDER BY id"
    for table, columns in {
        "queues": "id, queue_name, paused, archive_mode",
        "workers": "id, queue_id, role, status",
        "messages": "id, queue_id, state, read_ct, returned_ct, priority, payload, error, headers",
        "archive": "id, queue_id, status, read_ct, returned_ct, payload, output, error",
    }.items()
]


class Recorder:
    """Notes each statement with its parameters, on whatever engine."""

    def __init__(self) -> None:
        self.began = dt.datetime.now(dt.UTC)
        self.statements: dict[str, int] = {}
        self.calls: list[list[Any]] = []
        self.state: list[list[Any]] = []
        event.listen(Engine, "after_cursor_execute", self._note)

    def _note(self, _connection: Any, cursor: Any, sql: str, parameters: Any, *_: Any) -> None:
        if "pgqrs_" in sql and sql not in STATE and "LISTEN" not in sql:
            number = self.statements.setdefault(sql, len(self.statements))
            self.calls.append(
                [number, [plain(each, self.began) for each in parameters], cursor.rowcount]
            )

    def written(self) -> str:
        """All of it as JSON, a line for each statement and each call."""
        parts = {"statements": list(self.statements), "calls": self.calls, "state": self.state}
        lines = {
            name: ",\n".join(json.dumps(each) for each in part) for name, part in parts.items()
        }
        return "{" + ",\n".join(f'"{name}": [\n{text}\n]' for name, text in lines.items()) + "}\n"


def plain(value: Any, began: dt.datetime) -> Any:
    """Give a parameter as JSON; instants are told from the beginning."""
    if isinstance(value, dt.timedelta):
        return {"span": value.total_seconds()}
    if isinstance(value, dt.datetime):
        return {"after": (value - began).total_seconds()}
    if isinstance(value, uuid.UUID):
        return {"uuid": str(value)}
    if isinstance(value, list | tuple):
        return [plain(each, began) for each in value]
    if value == socket.gethostname():
        return "host"
    return value.value if isinstance(value, enum.Enum) else value


def revived(value: Any, began: dt.datetime) -> Any:
    """Give a parameter back from JSON; what was an instant of its call is one of this."""
    if isinstance(value, list):
        return [revived(each, began) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, text_),) = value.items()
    if kind == "uuid":
        return uuid.UUID(text_)
    span = dt.timedelta(seconds=text_)
    if kind == "span":
        return span
    return max(began + span, dt.datetime.now(dt.UTC)) if span > dt.timedelta(0) else began + span


def state_of(connection: Connection) -> list[Any]:
    """Give all there is of queues, workers, messages and history, but for when it was."""
    return [[list(row) for row in connection.execute(text(query))] for query in STATE]


def live(config: Config) -> None:
    """Lead queues and messages through all that can happen to them."""
    with Admin(config) as admin:
        admin.create_queue("dead")
        admin.create_queue("q", dead_letter="dead", retention=3600)
        admin.create_queue("other", archive_mode="meta")
        admin.update_queue("other", max_attempts=2, visibility_timeout=60)
        produced(config)
        consumed(config)
        looked_after(admin, config)
        looked_at(admin)
        if hasattr(pgqrs, "NewMessage"):
            with_options(admin, config)
        admin.delete_queue("other", force=True)


def produced(config: Config) -> None:
    with Producer(config, "q", "host", 1) as producer:
        producer.enqueue({"n": 1}, priority=3, max_attempts=1)
        producer.batch_enqueue([{"n": n} for n in range(30)])
        late = producer.enqueue_delayed({"late": True}, 3600)
        producer.extend_visibility(late, 60)
        producer.heartbeat()
    with Producer(config, "other") as producer:
        producer.batch_enqueue([1, {"two": 2}, None], delay=0)


def consumed(config: Config) -> None:
    with Consumer(config, "q", "host", 2) as consumer:
        first = consumer.dequeue(vt=3600)
        assert first is not None
        consumer.fail(first, "its only attempt")
        for end in (consumer.archive, consumer.delete, consumer.release):
            held = consumer.dequeue(vt=3600)
            assert held is not None
            end(held)
        consumer.archive_batch(consumer.dequeue_batch(3, vt=3600))
        consumer.delete_batch(consumer.dequeue_batch(2, vt=3600))
        _, two = consumer.archive_and_dequeue(consumer.dequeue_batch(2, vt=3600), 2)
        consumer.extend_visibility(two[0], 60)
        consumer.fail(two[0], ValueError("again"), delay=0)
        consumer.release(two[1:], 3600)
        consumer.suspend()
        assert consumer.dequeue() is None
        consumer.resume()
        done: list[Any] = []

        def handler(message: Any) -> str:
            done.append(message)
            if len(done) == 3:
                consumer.stop()
            return "done"

        consumer.run(handler)
    with Consumer(config, "other") as consumer:
        held = consumer.dequeue()
        assert held is not None
        consumer.archive(held, "skipped", output={"why": "not wanted"})


def looked_after(admin: Admin, config: Config) -> None:
    with Producer(config, "q") as producer:
        ids = [message.id for message in producer.batch_enqueue(range(6))]
    admin.cancel_messages(ids[:2])
    admin.resume_messages(ids[:1])
    admin.fail_messages([ids[2]], "by hand")
    admin.retry_messages([ids[2]])
    admin.archive_messages([ids[3]])
    admin.replay([ids[3]])
    admin.delete_messages([ids[4]])
    admin.replay_dead_letters("dead")
    with Consumer(config, "q") as consumer:
        consumer.dequeue(vt=3600)
        admin.release_worker_messages(consumer.worker_id or 0)
        consumer.dequeue(vt=3600)
        admin.release_messages([consumer.dequeue_batch(1)[0].id], force=True)
    admin.pause_queue("q")
    admin.resume_queue("q")
    admin.reclaim_messages(older_than=3600)
    admin.maintain()
    admin.purge_archive("q", older_than=3600)
    admin.purge_workers(older_than=3600)


def looked_at(admin: Admin) -> None:
    for everything in ("list_queues", "system_stats", "worker_management", "worker_health"):
        if hasattr(admin, everything):
            getattr(admin, everything)()
    admin.all_queues_metrics(exact=True)
    admin.workers("q")
    for message in admin.messages("q", limit=2):
        admin.get_message(message.id)
    admin.archived_messages("q")
    admin.dead_letters("q")
    if hasattr(admin, "bump_ids"):
        admin.bump_ids()


def with_options(admin: Admin, config: Config) -> None:
    admin.create_queue("fifo", policy="fifo")
    with Producer(config, "fifo") as producer, Consumer(config, "fifo") as consumer:
        producer.enqueue(1, ordering_key="a", headers={"trace": 1}, retain_for=3600)
        held = consumer.dequeue(vt=3600)
        assert held is not None
        consumer.archive(held)
    with Producer(config, "q") as producer:
        producer.enqueue(1, message_id=uuid.UUID(int=1), singleton_key="k", singleton_for=3600)
        producer.enqueue(1, message_id=uuid.UUID(int=1), on_conflict="skip")


if __name__ == "__main__":
    there = Config.from_dsn(sys.argv[1], cleanup_interval_seconds=0)
    with Admin(there) as first:
        first.install()
        recorder = Recorder()
        live(there)
        with first.pool.connect() as connection:
            recorder.state = [state_of(connection)]
    sys.stdout.write(recorder.written())
