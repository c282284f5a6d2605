"""Texts that want to be more than a value, and every place of the API that takes a text."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from pgqrs import (
    Admin,
    Archive,
    Config,
    Consumer,
    Json,
    Message,
    Messages,
    NewMessage,
    PgqrsClient,
    Producer,
    Queues,
    WorkerHandle,
    Workers,
    boss,
    migrations,
)

Place = Callable[[Admin, str], Any]
MARK: Final = "zq7"
"""Is in each of the texts below, so that it can be looked for in SQL."""
TEXTS: Final = (
    f"{MARK}'; DROP TABLE public.canary; --",
    f'{MARK}"; DROP TABLE public.canary; --',
    f"{MARK}\\'); DROP TABLE public.canary; --",
    f"${MARK}$; DROP TABLE public.canary; ${MARK}$",
    f"{MARK} %s %(x)s %% :x $1 {{}} ? /* -- */",
    f"{MARK}\0",
    f"{MARK}\ud800",
    f"\u202e{MARK}\r\n\x1b[2J\u2028",
    f'"{MARK}"',
    f"E'{MARK}\\",
    f"{MARK}." * 3000,
)


def _of_admin() -> Iterator[tuple[str, Place]]:
    for name in [
        "get_queue",
        "create_queue",
        "pause_queue",
        "resume_queue",
        "purge_queue",
        "purge_archive",
        "queue_metrics",
        "workers",
        "worker_stats",
        "messages",
        "archived_messages",
        "archived_after",
        "dead_letters",
        "replay_dead_letters",
        "delete_queue",
        "reclaim_messages",
        "get_message",
        "cancel_messages",
        "resume_messages",
        "retry_messages",
        "archive_messages",
        "delete_messages",
        "release_messages",
        "replay",
        "release_worker_messages",
        "delete_worker",
        "revoke",
        "purge_workers",
    ]:
        yield name, lambda a, s, name=name: getattr(a, name)(s)
    for option in [
        "visibility_timeout",
        "max_attempts",
        "archive_mode",
        "retry_delay",
        "retention",
        "policy",
        "retry_backoff",
        "dead_letter",
    ]:
        yield f"queue {option}", lambda a, s, o=option: a.create_queue(some(), **{o: s})
    yield "delete by force", lambda a, s: a.delete_queue(s, force=True)
    yield "queue with views", lambda a, s: a.create_queue(s, views=True)
    yield "name of an option", lambda a, s: a.create_queue(some(), **{s: 1})
    yield "dead letters", lambda a, s: a.update_queue("q", dead_letter=s)
    yield "health", lambda a, s: a.worker_health(60, s)
    yield "age", lambda a, s: a.reclaim_messages(older_than=s)  # type: ignore[arg-type]
    yield "ids", lambda a, s: a.cancel_messages([s])  # type: ignore[list-item]
    yield "reason", lambda a, s: a.fail_messages([added(a)], s)
    yield "status", lambda a, s: a.archive_messages([added(a)], s)
    yield "filter", lambda a, s: a.archived_messages("q", status=s)
    yield "erase ids", lambda a, s: a.erase_archived("q", [s])  # type: ignore[list-item]
    yield "erase part", lambda a, s: a.erase_archived("q", containing={s: s})
    yield "erase of", lambda a, s: a.erase_archived(s, [1])
    yield "after", lambda a, s: a.archived_after("q", s)  # type: ignore[arg-type]
    yield "limit", lambda a, s: a.messages("q", s)  # type: ignore[arg-type]
    yield "role", lambda a, s: a.grant("producer", s)
    yield "role printed", lambda a, s: a.grant("producer", s, dry_run=True)
    yield "access", lambda a, s: a.grant(s, "nobody")
    yield "handle", lambda a, s: WorkerHandle(a, s).status()  # type: ignore[arg-type]
    yield "schema", lambda a, s: Admin(Config(dsn=dsn_of(a), schema=s)).list_queues()
    yield "schema to install", lambda a, s: migrations.install(a.pool, s, dry_run=True)


def _of_producers() -> Iterator[tuple[str, Place]]:
    yield "queue", lambda a, s: Producer(a, s).enqueue(1)
    yield "host", lambda a, s: Producer(a, "q", s, 5).enqueue(1)
    yield "port", lambda a, s: Producer(a, "q", "h", s).enqueue(1)  # type: ignore[arg-type]
    for option in [
        "priority",
        "delay",
        "deliver_at",
        "max_attempts",
        "retry_delay",
        "retry_backoff",
        "expire_in",
        "retain_for",
        "dead_letter",
        "singleton_key",
        "ordering_key",
        "message_id",
        "headers",
        "on_conflict",
    ]:
        yield option, lambda a, s, o=option: added(a, **{o: s})
    yield "name of an option", lambda a, s: added(a, **{s: s})
    yield "window", lambda a, s: added(a, singleton_key=s, singleton_for=60)
    yield "header", lambda a, s: added(a, headers={s: {s: [s]}})
    yield "payload", lambda a, s: added(a, Json({s: [s]}))
    yield "payload as text", added
    yield "type", lambda a, s: added(a, typed(s)(x=1))
    for policy in ("short", "singleton", "stately", "exclusive"):
        yield policy, lambda a, s, p=policy: keyed(a, p, s)
    yield "fifo", lambda a, s: Producer(a, "fifo").enqueue(1, ordering_key=s)
    yield (
        "clash",
        lambda a, s: [Producer(a, "exclusive").enqueue(1, singleton_key=f"{s}!") for _ in "12"],
    )
    yield "extend", lambda a, s: Producer(a, "q").extend_visibility(s, 1)  # type: ignore[arg-type]


def _of_consumers() -> Iterator[tuple[str, Place]]:
    yield "consumer's queue", lambda a, s: Consumer(a, s).dequeue()
    yield "consumer's host", lambda a, s: Consumer(a, "q", s, 6).dequeue()
    yield "lease", lambda a, s: Consumer(a, "q").dequeue(s)  # type: ignore[arg-type]
    yield "held", lambda a, s: Consumer(a, "q").archive(s)  # type: ignore[arg-type]
    yield "all held", lambda a, s: Consumer(a, "q").delete_batch([s])  # type: ignore[list-item]
    for name, end in {
        "final status": lambda c, m, s: c.archive(m, s),
        "output": lambda c, m, s: c.archive(m, output={s: s}),
        "output as text": lambda c, m, s: c.archive(m, output=s),
        "error": lambda c, m, s: c.fail(m, s),
        "exception": lambda c, m, s: c.fail(m, ValueError(s)),
        "until": lambda c, m, s: c.extend_visibility(m, s),
        "wait": lambda c, m, s: c.release(m, s),
    }.items():
        yield name, lambda a, s, end=end: ended(a, end, s)
    yield "handler's end", lambda a, s: ran(a, s, fails=False)
    yield "handler's error", lambda a, s: ran(a, s, fails=True)


def _of_others() -> Iterator[tuple[str, Place]]:
    for table in (Queues, Workers, Messages, Archive):
        for name in ["get", "list", "count_by_fk", "filter_by_fk", "delete"]:
            yield f"{table.__name__}.{name}", lambda a, s, t=table, n=name: getattr(t(a), n)(s)
        yield f"{table.__name__}.insert", lambda a, s, t=table: t(a).insert(**{s: s})
        yield f"{table.__name__}.update", lambda a, s, t=table: t(a).update(1, **{s: s})
    yield "Queues by name", lambda a, s: Queues(a).get_by_name(s)
    yield "Queues exists", lambda a, s: Queues(a).exists(s)
    yield "Queues row", lambda a, s: Queues(a).delete(Queues(a).insert(queue_name=s).id)
    yield "Workers row", lambda a, s: Workers(a).insert(role="admin", hostname=s)
    yield "Workers role", lambda a, s: Workers(a).insert(role=s, hostname="h")
    yield "held by", lambda a, s: Messages(a).filter_by_worker(s)  # type: ignore[arg-type]
    yield "client reads", lambda a, s: PgqrsClient(a).consumer().read(s)
    yield "client adds", lambda a, s: PgqrsClient(a).producer().enqueue(s, 1)
    for name in ["create_standard_queue", "get_queue", "delete_queue", "fetch_job"]:
        yield f"boss {name}", lambda a, s, n=name: getattr(boss.Client(a), n)(s)
    yield "boss send_data", lambda a, s: boss.Client(a).send_data(s, 1)
    yield "boss get_job", lambda a, s: boss.Client(a).get_job("q", s)  # type: ignore[arg-type]
    yield "boss fail_job", lambda a, s: boss.Client(a).fail_job("q", uuid.uuid4(), s)


def some() -> str:
    return f"n{uuid.uuid4().hex[:12]}"


def dsn_of(admin: Admin) -> Any:
    return admin.binding.config.url.render_as_string(hide_password=False)


def added(admin: Admin, payload: Any = 1, **options: Any) -> int:
    with Producer(admin, "q") as producer:
        return producer.enqueue(payload, **options).id  # type: ignore[no-any-return]


def typed(name: str) -> Any:
    return type("Typed", (Message,), {"__annotations__": {"x": int}}, message_type=name)


def keyed(admin: Admin, policy: str, key: str) -> None:
    with Producer(admin, policy) as producer, Consumer(admin, policy) as consumer:
        producer.enqueue(1, singleton_key=key, on_conflict="skip")
        producer.batch_enqueue([1, NewMessage(2, singleton_key=key)], on_conflict="skip")
        for message in consumer.dequeue_batch(9):
            consumer.fail(message, key, delay=0)


def ended(admin: Admin, end: Callable[[Consumer, Any, str], Any], text: str) -> None:
    added(admin)
    with Consumer(admin, "q") as consumer:
        end(consumer, consumer.dequeue(), text)


def ran(admin: Admin, text: str, *, fails: bool) -> None:
    added(admin)
    with Consumer(admin, "q") as consumer:

        def handler(_: Any) -> str:
            consumer.stop()
            if fails:
                raise ValueError(text)
            return text

        consumer.run(handler)


PLACES: Final[dict[str, Place]] = dict(
    (*_of_admin(), *_of_producers(), *_of_consumers(), *_of_others())
)
