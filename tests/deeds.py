"""What can be done with pgqrs, deed by deed, and which access is enough for it.

The letters of a deed are those of Access: P(roducer), C(onsumer), A(dmin), R(eadonly).
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Engine, text

from pgqrs import (
    Admin,
    Archive,
    Config,
    Consumer,
    DuplicateMessageError,
    Messages,
    NewMessage,
    Producer,
    QueuePolicy,
    Queues,
    WorkerHandle,
    Workers,
)
from pgqrs.translation import translated

Deed = Callable[["Scene"], Any]
DEEDS: Final[dict[str, tuple[str, Deed]]] = {}
OTHERS: Final = {
    "letters": {"dead_letter": "dead"},
    "meta": {"archive_mode": "meta"},
    "none": {"archive_mode": "none"},
    "kept": {"retention": 60},
    "seen": {"views": True},
    **{policy.value: {"policy": policy} for policy in QueuePolicy if policy != "standard"},
}
LONG_AGO: Final = (
    "UPDATE pgqrs.pgqrs_messages SET vt = now() - interval '1 h', enqueued_at = '2000-01-01'",
    "UPDATE pgqrs.pgqrs_archive SET archived_at = now() - interval '9 d'",
    "UPDATE pgqrs.pgqrs_keys SET until = now() - interval '1 h'",
    "UPDATE pgqrs.pgqrs_workers SET shutdown_at = now() - interval '9 d', status = 'stopped'",
)


@dataclass
class Scene:
    """The owner who prepares a deed, and the role that does it."""

    owner: Admin
    role: Config
    engine: Engine
    kept_open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        for name in ("q", "dead"):
            self.owner.create_queue(name)
        for name, options in OTHERS.items():
            self.owner.create_queue(name, **options)  # type: ignore[arg-type]
        self.kept_open.enter_context(Admin(self.role))  # its engine and connections
        self.producing = self.kept_open.enter_context(Producer(self.owner, "q"))

    def sql(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def fill(self, count: int = 1, queue: str = "q", **options: Any) -> list[int]:
        with Producer(self.owner, queue) as producer:
            return [added.id for added in producer.batch_enqueue([{"n": 1}] * count, **options)]

    def held(self, consumer: Consumer, queue: str = "q", **options: Any) -> Any:
        self.fill(1, queue, **options)
        return consumer.dequeue()

    def finished(self, queue: str = "q", status: str = "completed") -> int:
        with Consumer(self.owner, queue) as consumer:
            message = self.held(consumer, queue, priority=9)
            consumer.archive(message, status)
        return int(message.id)

    @contextlib.contextmanager
    def leased(self) -> Iterator[Any]:
        """A message that a consumer of the owner's holds."""
        with Consumer(self.owner, "q") as consumer:
            yield self.held(consumer)


def deed(may: str) -> Callable[[Deed], Deed]:
    def add(done: Deed) -> Deed:
        DEEDS[done.__name__] = may, done
        return done

    return add


def producing(name: str, done: Callable[[Producer], Any], queue: str = "q") -> Deed:
    def act(scene: Scene) -> None:
        with Producer(scene.role, queue) as producer:
            done(producer)

    act.__name__ = name
    return act


def consuming(name: str, done: Callable[[Consumer, Any], Any], queue: str = "q") -> Deed:
    """One that leases a message first."""

    def act(scene: Scene) -> None:
        with Consumer(scene.role, queue) as consumer:
            done(consumer, scene.held(consumer, queue))

    act.__name__ = name
    return act


def administering(name: str, done: Callable[[Scene, Admin], Any]) -> Deed:
    def act(scene: Scene) -> None:
        with Admin(scene.role) as admin:
            done(scene, admin)

    act.__name__ = name
    return act


def some() -> str:
    return f"n{uuid.uuid4().hex[:12]}"


def twice(producer: Producer, **options: Any) -> None:
    producer.enqueue(1, **options)
    assert producer.enqueue(1, **options, on_conflict="skip") is None


def in_part(producer: Producer) -> None:
    """A batch with one duplicate, which is taken back as a whole."""
    there = uuid.uuid4()
    producer.enqueue(0, message_id=there)
    batch = [NewMessage(1, message_id=uuid.uuid4()), NewMessage(2, message_id=there)]
    with contextlib.suppress(DuplicateMessageError):
        producer.batch_enqueue(batch)


def with_two_keys(producer: Producer, **options: Any) -> None:
    """A message that gets its id and not its other key, so that the id is given back."""
    producer.enqueue(1, **options)
    for _ in range(2):
        again = producer.enqueue(2, **options, message_id=uuid.uuid4(), on_conflict="skip")
        assert again is None


def lived(one: Any) -> None:
    one.heartbeat()
    one.status()
    assert one.is_healthy(60)
    one.suspend()
    one.resume()
    one.suspend()
    one.shutdown()


for each in (
    producing("enqueue", lambda p: p.enqueue({"a": 1})),
    producing("batch_enqueue", lambda p: p.batch_enqueue([1, 2])),
    producing("enqueue_delayed", lambda p: p.enqueue_delayed(1, 60)),
    producing("extend_visibility", lambda p: p.extend_visibility(p.enqueue_delayed(1, 60), 5)),
    producing("producer_life", lived),
):
    deed("PCA")(each)
for each in (
    producing("enqueue_headers", lambda p: p.enqueue(1, headers={"a": 1}, retry_delay=1)),
    producing("enqueue_kept", lambda p: p.enqueue(1, retain_for=60, dead_letter="dead")),
    producing("enqueue_window", lambda p: twice(p, singleton_for=60, singleton_key=some())),
    producing("enqueue_identity", lambda p: twice(p, message_id=uuid.uuid4())),
    producing("enqueue_exclusive", lambda p: twice(p, singleton_key=some()), "exclusive"),
    producing("enqueue_in_part", in_part),
    producing("enqueue_two", lambda p: with_two_keys(p, singleton_for=60, singleton_key=some())),
    producing("enqueue_one", lambda p: with_two_keys(p, singleton_key=some()), "exclusive"),
    producing("enqueue_fifo", lambda p: p.enqueue(1, ordering_key=some()), "fifo"),
):
    deed("PA")(each)
for each in (
    consuming("archive", lambda c, m: c.archive(m, output={"a": 1})),
    consuming("archive_batch", lambda c, m: c.archive_batch([m])),
    consuming("archive_and_dequeue", lambda c, m: c.archive_and_dequeue([m], 3)),
    consuming("archive_meta", lambda c, m: c.archive(m), "meta"),
    consuming("archive_none", lambda c, m: c.archive(m), "none"),
    consuming("delete", lambda c, m: c.delete(m)),
    consuming("delete_batch", lambda c, m: c.delete_batch([m])),
    consuming("extend_lease", lambda c, m: c.extend_visibility(m, 5)),
    consuming("release", lambda c, m: (c.release(m), c.release(c.dequeue_batch(1), 3))),
    consuming("fail", lambda c, m: c.fail(m, "no")),
    consuming("consumer_life", lambda c, m: (c.release(m), lived(c))),
):
    deed("CA")(each)


@deed("CA")
def die(scene: Scene) -> None:
    with Consumer(scene.role, "letters") as consumer:
        options = {"max_attempts": 1, "retain_for": 60}
        consumer.fail(scene.held(consumer, "letters", **options), "no")


@deed("CA")
def bury(scene: Scene) -> None:
    with Consumer(scene.role, "letters", "far", 9) as consumer:
        scene.held(consumer, "letters", max_attempts=1)
        scene.sql(LONG_AGO[0])
        consumer.dequeue()
    with Consumer(scene.role, "letters") as consumer:
        consumer.dequeue()


@deed("CA")
def lease_in_turn(scene: Scene) -> None:
    with Consumer(scene.role, "fifo") as consumer:
        for ending in (consumer.delete, consumer.release, consumer.archive):
            scene.fill(1, "fifo", ordering_key="one")
            ending(consumer.dequeue())  # type: ignore[operator]


@deed("PCA")
def take_over(scene: Scene) -> None:
    with Consumer(scene.owner, "q", "near", 10) as gone:
        gone.heartbeat()
        scene.sql("UPDATE pgqrs.pgqrs_workers SET heartbeat_at = now() - interval '1 h'")
        with Consumer(scene.role, "q", "near", 10) as consumer:
            consumer.heartbeat()


@deed("CA")
def maintain(scene: Scene) -> None:
    scene.finished("kept")
    scene.fill(1, "kept", retain_for=1)
    with Consumer(scene.owner, "letters") as consumer:
        scene.held(consumer, "letters", max_attempts=1)
        scene.sql(*LONG_AGO)
        with Admin(scene.role) as admin:
            done = admin.maintain()
    assert min(done.dead_messages, done.purged_messages) > 0, done


for name, act in {
    "list_queues": lambda _, a: a.list_queues(),
    "get_queue": lambda _, a: a.get_queue("q"),
    "verify": lambda _, a: a.verify(),
    "diagnose": lambda _, a: a.diagnose(),
    "workers": lambda _, a: a.workers(),
    "worker_stats": lambda _, a: a.worker_stats("q"),
    "worker_management": lambda _, a: a.worker_management(),
    "worker_health": lambda _, a: a.worker_health(60),
    "messages": lambda _, a: a.messages("q"),
}.items():
    deed("PCAR")(administering(name, act))
for name, act in {
    "queue_metrics": lambda _, a: a.queue_metrics("q"),
    "all_queues_metrics": lambda _, a: a.all_queues_metrics(exact=True),
    "system_stats": lambda _, a: a.system_stats(),
    "get_message": lambda s, a: a.get_message(s.fill()[0]),
    "archived_messages": lambda _, a: a.archived_messages("q"),
    "archived_after": lambda _, a: a.archived_after("q"),
    "dead_letters": lambda _, a: a.dead_letters("q"),
}.items():
    deed("CAR")(administering(name, act))


@deed("CAR")
def read_rows(scene: Scene) -> None:
    done = scene.finished()
    with Queues(scene.role) as queues, Workers(scene.role) as workers:
        assert queues.exists("q")
        assert queues.count() == len(queues.list())
        workers.count_by_fk(1)
    with Messages(scene.role) as messages, Archive(scene.role) as archive:
        messages.list()
        assert archive.get(done).id == done


@deed("AR")
def read_views(scene: Scene) -> None:
    with (
        translated("pgqrs"),
        Admin(scene.role) as admin,
        admin.pool.connect() as connection,
    ):
        for view in ("q_seen", "a_seen", "queues"):
            connection.execute(text(f"SELECT * FROM pgqrs.{view}"))


for name, act in {
    "create_queue": lambda _, a: a.create_queue(some()),
    "update_queue": lambda _, a: a.update_queue("q", max_attempts=5),
    "pause_queue": lambda _, a: (a.pause_queue("meta"), a.resume_queue("meta")),
    "replay_dead_letters": lambda _, a: a.replay_dead_letters("dead"),
    "replay": lambda s, a: a.replay(s.finished()),
}.items():
    deed("A")(administering(name, act))
for name, act in {
    "reclaim_messages": lambda _, a: a.reclaim_messages(older_than=9999),
    "purge_workers": lambda _, a: a.purge_workers(9999),
    "purge_queue": lambda s, a: (s.fill(), a.purge_queue("q")),
    "delete_messages": lambda s, a: a.delete_messages(s.fill()),
}.items():
    deed("PCA")(administering(name, act))
for name, act in {
    "purge_archive": lambda s, a: (s.finished(), a.purge_archive("q")),
    "erase_archived": lambda s, a: a.erase_archived("q", [s.finished()]),
    "cancel_messages": lambda s, a: a.cancel_messages(s.fill()),
    "retry_messages": lambda s, a: a.retry_messages(s.finished(status="failed")),
    "fail_messages": lambda s, a: a.fail_messages(s.fill(), "no"),
    "archive_messages": lambda s, a: a.archive_messages(s.fill()),
}.items():
    deed("CA")(administering(name, act))


@deed("A")
def bump_ids(scene: Scene) -> None:
    scene.sql("ALTER TABLE pgqrs.pgqrs_queues ALTER id RESTART WITH 1")
    try:
        with Admin(scene.role) as admin:
            admin.bump_ids()
    finally:
        scene.owner.bump_ids()


@deed("PCA")
def admin_life(scene: Scene) -> None:
    with Admin(scene.role) as admin:
        lived(admin)


@deed("CA")
def release_messages(scene: Scene) -> None:
    with scene.leased() as message, Admin(scene.role) as admin:
        admin.release_messages([message.id], force=True)
        admin.release_worker_messages(message.consumer_worker_id)


@deed("PCA")
def delete_worker(scene: Scene) -> None:
    with Consumer(scene.owner, "q", "there", 44) as gone:
        gone.heartbeat()
        worker_id = gone.worker_id
    with Admin(scene.role) as admin:
        admin.delete_worker(worker_id or 0)


@deed("PCA")
def suspend_worker(scene: Scene) -> None:
    with Consumer(scene.owner, "q") as other:
        other.heartbeat()
        WorkerHandle(scene.role, other.worker_id or 0).suspend()
        WorkerHandle(scene.role, other.worker_id or 0).resume()


@deed("A")
def life_of_a_queue_with_views(scene: Scene) -> None:
    with Admin(scene.role) as admin:
        name = some()
        admin.create_queue(name, views=True)
        scene.fill(1, name)
        scene.finished(name)
        admin.delete_queue(name, force=True)


@deed("")
def remove_the_tables(scene: Scene) -> None:
    with Admin(scene.role) as admin:
        admin.uninstall()


@deed("")
def grant_to_itself(scene: Scene) -> None:
    with Admin(scene.role) as admin:
        admin.grant("readonly", str(scene.role.url.username))
