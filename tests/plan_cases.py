"""The statements that have a budget, each as the library sends it, with the index it is to use."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pgqrs import Archive, Config, Messages, Producer
from pgqrs.statements import (
    acknowledge,
    dead_letter,
    identity,
    keeping,
    lifecycle,
    look,
    maintain,
    measure,
    purge,
    restore,
    settle,
    supervise,
    turn,
    withdraw,
)
from pgqrs.statements.keyed import TAKES_TURNS
from pgqrs.statements.lease import lease, lease_above, lease_first, lease_in_turn

SPAN = dt.timedelta(seconds=30)
STEADY, LATE, IDLE, BEHIND = 1, 2, 3, 4
HOLDER = {STEADY: 2, LATE: 3, BEHIND: 2}
READY, DELAYED, LEASED = "messages_ready", "messages_delayed", "messages_leased"
PK, HISTORY, KEY = "messages_pkey", "archive_pkey", "keys_pkey"
ARMS = frozenset([READY, DELAYED, LEASED, PK])
LEASING = {"default_timeout": SPAN, "default_attempts": 5}
EVER, NEVER = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2000, 3000))
FIRST, MIDDLE = -1, 30_000
BODY = '{"text": "' + "x" * 185 + '"}'


@dataclass(frozen=True)
class Scene:
    """A schema, and leases that the holder of the steady queue has there."""

    schema: str
    ids: list[int]
    counts: list[int]


@dataclass(frozen=True)
class Budget:
    """How many buffers a statement may read: some, and some for each of its n rows."""

    n: int = 1
    each: int = 12
    base: int = 20
    sorted_rows: int = 0

    def buffers(self, version: int) -> int:
        # Before 17 each id of an array is looked up by a descent of its own: measured are up to 3.8
        # for a message more than in 18.
        return self.base + (self.each + (4 if version < 17 else 0)) * self.n


@dataclass(frozen=True)
class Case:
    """A statement, what it may read, and by which indexes."""

    name: str
    call: Callable[[Connection, Scene], object]
    indexes: frozenset[str]
    budget: Budget


def case(
    name: str,
    statement: Callable[[str], Any],
    values: Callable[[Scene], dict[str, Any]],
    *indexes: str,
    **budget: int,
) -> Case:
    def call(connection: Connection, scene: Scene) -> object:
        return connection.execute(statement(scene.schema), values(scene)).all()

    return Case(name, call, frozenset(indexes), Budget(**budget))


def rows(name: str, call: Callable[[Any, Any], object], *indexes: str, n: int = 1) -> Case:
    """A method of the repositories: `call` gets those of messages and of the archive."""

    def look(connection: Connection, scene: Scene) -> object:
        config = config_of(scene)
        return call(Messages(connection, config), Archive(connection, config))

    return Case(name, look, frozenset(indexes), Budget(n))


def leased(queue: int, n: int) -> Callable[[Connection, Scene], object]:
    values = {"queue": queue, "worker": HOLDER[queue], "n": n, "timeout": None}
    return lambda connection, scene: connection.execute(lease(scene.schema), values | LEASING).all()


def leased_above(n: int) -> Callable[[Scene], dict[str, Any]]:
    terms = {"queue": STEADY, "worker": HOLDER[STEADY], "n": n, "timeout": None}
    return given(**terms, **LEASING, rank=0, floor=MIDDLE, since=EVER)


def one(**more: Any) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {"mid": scene.ids[0], "rc": scene.counts[0], "worker": 2, **more}


def many(n: int, **more: Any) -> Callable[[Scene], dict[str, Any]]:
    return lambda scene: {"mids": scene.ids[:n], "rcs": scene.counts[:n], "worker": 2, **more}


def history(n: int, **more: Any) -> Callable[[Scene], dict[str, Any]]:
    ids = [1 + 7_001 * i for i in range(n)]
    return given(mids=ids, rcs=[1] * n, worker=2, **more)


def given(**values: Any) -> Callable[[Scene], dict[str, Any]]:
    return lambda _: values


def produced(name: str, call: Callable[[Producer], object], n: int = 1) -> Case:
    """A method of the producer: an INSERT, whose index entries need no scan."""

    def add(connection: Connection, scene: Scene) -> object:
        return call(Producer(connection, "steady", config=config_of(scene)))

    return Case(name, add, frozenset(), Budget(n))


def config_of(scene: Scene) -> Config:
    return Config.from_dsn("postgresql://unused", schema=scene.schema)


ACKNOWLEDGING = [
    case("archive one", acknowledge.archive_one, one(outcome="completed", result='{"a": 1}'), PK),
    case("archive dead", acknowledge.archive_dead, one(outcome="dead", result=None), PK),
    *(
        case(f"archive {n}", acknowledge.archive_many, many(n, outcome="completed"), PK, n=n)
        for n in (10, 100)
    ),
    case("delete one", acknowledge.delete_one, one(), PK),
    case("delete 10", acknowledge.delete_many, many(10), PK, n=10),
    case("delete 100", acknowledge.delete_many, many(100), PK, n=100),
    case("extend", acknowledge.extend, one(span=SPAN), PK),
    case("extend as producer", acknowledge.extend_produced, one(worker=1, span=SPAN), PK),
    *(
        # Two index entries a row, as for a lease.
        case(f"release {n}", acknowledge.release, many(n, **how), PK, n=n, each=13)
        for n, how in ((10, {"span": SPAN, "phase": 1}), (100, {"span": SPAN * 0, "phase": 0}))
    ),
    case(
        "find archived",
        acknowledge.find_archived,
        history(10, queue=STEADY, outcome="completed"),
        HISTORY,
        n=10,
    ),
    case("exist", acknowledge.exist, history(10, queue=STEADY), PK, HISTORY, n=10),
]
ENQUEUEING = [
    produced("enqueue", lambda producer: producer.enqueue(BODY)),
    produced("enqueue delayed", lambda producer: producer.enqueue_delayed(BODY, SPAN)),
    produced("enqueue 100", lambda producer: producer.batch_enqueue([BODY] * 100), n=100),
]
UPTO = 2**62
PURGING = [
    case(
        f"purge {n} {statement.__name__} of {queue}",
        statement,
        given(queue=queue, upto=UPTO, n=n),
        index,
        PK,
        n=n,
    )
    for statement, index in (
        (purge.ready, READY),
        (purge.delayed, DELAYED),
        (purge.leased, LEASED),
    )
    for queue, n in ((STEADY, 100), (STEADY, 5000), (IDLE, 5000))
]
PURGING += [
    case("newest", purge.newest, given(), PK),
    *(
        case(
            f"purge 1000 archived of {queue} after {after} up to {upto.year}",
            purge.archived,
            given(queue=queue, after=after, upto=upto, n=1000, spares=True),
            HISTORY,
            n=1000,
        )
        for queue in (STEADY, IDLE)
        for after, upto in ((FIRST, NEVER), (MIDDLE, NEVER), (FIRST, EVER))
    ),
]
# A pass over the leases, of which there are 2,900, and 14 buffers for each row that changes.
PASS = {"base": 600, "each": 14, "sorted_rows": 2900}
AGE = dt.timedelta(hours=5)
ALIVE, NOT_ALIVE = {"age": AGE}, {"age": -AGE}
SUPERVISING = [
    case("give all back", lifecycle.give_back_all, given(me=2), LEASED, n=150, **PASS),
    case("shut down", lifecycle.shut_down, given(me=2), LEASED, n=0, **PASS),
    case("expire leases", supervise.expire_leases, given(me=2), LEASED, n=150, **PASS),
    case("remove worker", supervise.remove, given(me=2), LEASED, n=0, **PASS),
    case("purge no workers", supervise.purge, given(**ALIVE), LEASED, n=0, **PASS),
    case("purge workers", supervise.purge, given(**NOT_ALIVE), LEASED, n=296, **PASS),
]
for _by_queue, _which in ((False, {}), (True, {"queue": "steady"})):
    _whose = "of a queue" if _by_queue else "of all"
    SUPERVISING += [
        case(
            f"{name} {_whose}",
            lambda schema, made=statement, by_queue=_by_queue: made(schema, by_queue=by_queue),
            given(**_which, **age),
            LEASED,
            n=n,
            **PASS,
        )
        for name, statement, age, n in (
            ("reclaim nothing", supervise.reclaim, ALIVE, 0),
            ("reclaim", supervise.reclaim, NOT_ALIVE, 300 + 450),
            ("statistics", supervise.stats, ALIVE, 0),
            ("health", supervise.health, ALIVE, 0),
        )
    ]


def settling(n: int, **columns: Any) -> Callable[[Scene], dict[str, Any]]:
    return many(n, **{name: [value] * n for name, value in columns.items()})


RETRY = {"default_delay": SPAN, "default_limit": SPAN, "default_backoff": True}
SETTLING = [
    case(
        "finish 100",
        settle.finish_many,
        settling(100, outcomes="completed", results="1", reasons=None),
        PK,
        n=100,
    ),
    case(
        "finish 100 dead",
        settle.finish_some_dead,
        settling(100, outcomes="dead", results=None, reasons='"why"'),
        PK,
        n=100,
    ),
    case(
        "fail 100",
        settle.fail_many,
        lambda scene: (
            settling(100, reasons='"why"', waits=None)(scene)
            | {"queue": STEADY, "default_attempts": 5, **RETRY}
        ),
        PK,
        n=100,
        each=20,  # it looks at each lease twice: is it the last attempt, or not
    ),
    case(
        "extend 100", settle.extend_many, settling(100, spans=30.0, rests=20.0), PK, n=100, each=15
    ),
]
CAP = 1000
MEASURING = [
    # Six counts, types, rates and four heads, each row of a count at most a visit to its page.
    case(
        f"metrics of {queue}",
        measure.one_queue,
        given(queue=queue, cap=CAP),
        *(READY, DELAYED, LEASED, HISTORY, PK, "archive_unfinished"),
        n=6 * CAP,
        each=1,
        base=100,
    )
    for queue in ("steady", "late", "idle")
]
MEASURING.append(
    case(
        "metrics of every queue",
        measure.every_queue,
        given(cap=CAP),
        *(READY, DELAYED, LEASED, HISTORY),
        n=4 * 6 * CAP,
        each=1,
        base=400,
        sorted_rows=4,  # the queues
    )
)
LOOKING = [
    rows("get message", lambda m, _: m.get(310_001), PK),
    rows("get archived", lambda _, a: a.get(77), HISTORY),
    rows("update message", lambda m, _: m.update(310_001, message_type="x"), PK),
    rows("delete message", lambda m, _: m.delete(310_001), PK),
    rows("list messages", lambda m, _: m.list(100), PK, n=100),
    rows("list archive", lambda _, a: a.list(100), HISTORY, n=100),
    *(
        rows(
            f"list messages of {queue}",
            lambda m, _, queue=queue: m.filter_by_fk(queue, 100),
            *(READY, DELAYED, LEASED),
            n=100,
        )
        for queue in (STEADY, LATE, IDLE)
    ),
    *(
        rows(
            f"list archive of {queue}",
            lambda _, a, queue=queue: a.filter_by_fk(queue, 100),
            HISTORY,
            n=100,
        )
        for queue in (STEADY, IDLE)
    ),
    # Through the index of all leases, of which there are 2,900.
    rows("list held", lambda m, _: m.filter_by_worker(2, 100), LEASED, n=100),
    rows("count held", lambda m, _: m.count_by_worker(2), LEASED, n=100),
]
EXPIRED = {"default_attempts": 5, "n": 100}
MAINTAINING = [
    # The walk goes over all expired leases of the queue: `late` has 450, and `behind` 2,000.
    *(
        case(
            f"{statement.__name__} {queue}",
            statement,
            given(queue=queue, **more, **EXPIRED),
            LEASED,
            n=n,
            base=base,
            each=14,
        )
        for statement, more in (
            (maintain.bury, {"upto": None, "since": None}),
            (maintain.revive, {"age": SPAN}),
        )
        for queue, n, base in ((LATE, 100, 700), (BEHIND, 100, 2500), (IDLE, 0, 20))
    ),
    case(
        "bury no further than a lease looked",
        maintain.bury,
        given(queue=BEHIND, upto=EVER, since=None, **EXPIRED),
        LEASED,
        n=0,
        base=20,
        each=14,
    ),
]


def finishing(scene: Scene, n: int) -> dict[str, Any]:
    return settling(n, outcomes="completed", results="1", reasons=None)(scene)


TURN = [
    # What finishing and leasing may read, together.
    case(
        f"finish and lease {n}",
        turn.finish_and_lease,
        lambda scene, n=n: (
            finishing(scene, n) | {"queue": STEADY, "n": n, "timeout": None, **LEASING}
        ),
        *ARMS,
        n=n,
        each=12 + 14,
        base=20 + 40,
        sorted_rows=3 * n,
    )
    for n in (1, 100)
]
FORCED, PATIENT = {"force": True}, (False, True)


def by_ids(name: str, build: Any, values: Any, *indexes: str, waits: bool, **budget: int) -> Case:
    how = " and wait" if waits else ""
    return case(name + how, lambda schema: build(schema, waits=waits), values, *indexes, **budget)


def failed(n: int, **more: Any) -> Callable[[Scene], dict[str, Any]]:
    return given(mids=[50 * (1 + 7 * i) for i in range(n)], **more)


INTERVENING = [
    *(
        # Each is looked at by its id when chosen, when changed, and when asked about.
        by_ids(
            f"{name} {n}", build, many(n, **values), PK, waits=waits, n=n, each=22, sorted_rows=n
        )
        for waits in PATIENT
        for n in (1, 100)
        for name, build, values in (
            ("cancel", withdraw.archive, {"outcome": "cancelled", "reason": None, **FORCED}),
            ("delete any", withdraw.delete_any, FORCED),
            ("release any", withdraw.release, FORCED),
        )
    ),
    *(
        # Three times too, and in each of four queues.
        by_ids(
            f"retry {n}",
            restore.retry,
            failed(n, default_attempts=5),
            HISTORY,
            waits=waits,
            n=n,
            each=60,
            sorted_rows=n,
        )
        for waits in PATIENT
        for n in (1, 100)
    ),
    case("resume none", lambda s: restore.resume(s, waits=False), failed(1), HISTORY, each=60),
    *(
        case(f"replay {n}", restore.replay, failed(n), HISTORY, n=n, each=30, sorted_rows=n)
        for n in (1, 100)
    ),
    # None of these came from another queue: it looks at all that wait, and takes nothing.
    case("replay no dead letters", dead_letter.replay, given(queue=IDLE, n=100), READY, DELAYED),
    *(
        case(
            f"list {status or 'all'} archived",
            lambda schema, by_status=status is not None, unfinished=unfinished: look.archived(
                schema, by_status=by_status, unfinished=unfinished
            ),
            given(queue=STEADY, size=100, start=0, **({"status": status} if status else {})),
            index,
            n=100,
        )
        for status, unfinished, index in (
            (None, False, HISTORY),
            ("completed", False, HISTORY),
            ("failed", True, "archive_unfinished"),
        )
    ),
    case("find waiting", look.find, given(mid=310_001), PK, HISTORY),
    case("find archived by id", look.find, given(mid=77), PK, HISTORY),
    *(
        case(
            f"look at messages of {queue}",
            look.page,
            given(queue=queue, size=100, start=0),
            *(READY, DELAYED, LEASED),
            n=100,
        )
        for queue in (STEADY, LATE, IDLE)
    ),
]
NAMED = str(uuid.UUID(hashlib.md5(b"78").hexdigest()))  # as the scene has it
UNNAMED = str(uuid.UUID(int=2**64))
LOOKING += [
    case(
        f"find {n} by what producers named them",
        identity.find,
        # Waiting, archived, nowhere; and archived and nowhere under a name.
        given(
            queue="steady",
            numbers=[310_001, 77, 10**9, None, None] * (n // 5),
            keys=[None, None, None, NAMED, UNNAMED] * (n // 5),
        ),
        *(PK, HISTORY, KEY),
        n=n,
    )
    for n in (5, 100)
]
LOOKING += [
    case(
        "forget 10",
        identity.forget,
        given(queue=STEADY, mids=list(range(71, 80)), gone=[310_001], keys=[NAMED, UNNAMED] * 5),
        *(HISTORY, KEY),
        n=10,
    ),
    *(
        case(
            f"look after {n} keys",
            keeping.look_after,
            given(queue=STEADY, n=n, upto=dt.datetime.now(dt.UTC)),
            *(PK, HISTORY, KEY, "keys_until"),
            n=n,
            each=30,
        )
        for n in (10, 1000)
    ),
]
BOUNDED = [
    case(
        f"{name} {n} from bounds on",
        statement,
        lambda scene, n=n, more=more: leased_above(n)(scene) | more(scene, n),
        *ARMS,
        n=n,
        each=each,
        base=base,
        sorted_rows=3 * n,
    )
    for n in (1, 100)
    for name, statement, more, each, base in (
        ("lease", lease_above, lambda _scene, _n: {}, 14, 40),
        ("finish and lease", turn.finish_and_lease_above, finishing, 12 + 14, 20 + 40),
    )
]
FIRST_OF_ALL = [
    case(
        f"lease {n} of short",
        lease_first,
        given(queue=STEADY, worker=HOLDER[STEADY], n=n, timeout=None, **LEASING),
        *ARMS,
        n=n,
        each=14,
        base=40,
        sorted_rows=3 * n,
    )
    for n in (1, 100)
]
IN_TURN = [
    # Whose leases depend on each other look at the first of the line, and count their queue up.
    case(
        f"lease {n} of {policy.value}{' widely' if wide else ''}",
        lambda schema, policy=policy, wide=wide: lease_in_turn(schema, policy, wide=wide),
        given(queue=STEADY, worker=HOLDER[STEADY], n=n, timeout=None, **LEASING),
        n=n,
        each=40,
        base=200,
        sorted_rows=8 * n + 40,
    )
    for n in (1, 100)
    for policy in sorted(TAKES_TURNS)
    for wide in (False, True)
]
CASES = [
    *FIRST_OF_ALL,
    *IN_TURN,
    *BOUNDED,
    *TURN,
    *MAINTAINING,
    *ACKNOWLEDGING,
    *ENQUEUEING,
    *PURGING,
    *SUPERVISING,
    *SETTLING,
    *MEASURING,
    *LOOKING,
    *INTERVENING,
]
