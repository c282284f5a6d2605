"""No statement reads more than its share, whatever PostgreSQL knows of the tables.

Each statement is captured as the library sends it and explained with values, as it is executed
once prepared, and as a generic plan; with statistics that are fresh, missing, or of another time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from plan_cases import (
    ARMS,
    BEHIND,
    CASES,
    DELAYED,
    IDLE,
    LATE,
    LEASED,
    PK,
    READY,
    STEADY,
    TURN,
    Budget,
    Case,
    Scene,
    leased,
)
from plans import STATES, Explainer, Plan, furnish
from sqlalchemy import URL, Connection

from pgqrs import Archive, Config, Messages
from pgqrs.embedded import EmbeddedPostgres
from pgqrs.statements import queues
from pgqrs.statements.lease import PROMOTED_AT_ONCE

# What statements leave behind, rolled back but not yet vacuumed, is in the way of the next ones: on
# a server of their own, in one process and in one order, buffers repeat exactly.
pytestmark = [pytest.mark.matrix, pytest.mark.xdist_group("plans")]


@pytest.fixture(scope="module")
def furnished(quiet_server: EmbeddedPostgres) -> URL:
    """One schema a state of the statistics."""
    url = Config.from_dsn(quiet_server.dsn()).url
    furnish(url)
    return url


@pytest.fixture(scope="module")
def explainer(furnished: URL) -> Iterator[Explainer]:
    explainer = Explainer(furnished)
    yield explainer
    explainer.close()


@pytest.fixture(scope="module", params=STATES)
def scene(request: pytest.FixtureRequest, explainer: Explainer) -> Scene:
    held = explainer.ask(
        f"SELECT id, read_ct FROM {request.param}.pgqrs_messages"
        " WHERE state = 2 AND consumer_worker_id = 2 ORDER BY id"
    )
    return Scene(request.param, [row[0] for row in held], [row[1] for row in held])


def plans_of(
    explainer: Explainer, scene: Scene, call: Any, budget: Budget | None = None
) -> Iterator[tuple[str, Plan]]:
    (sent,) = explainer.capture(lambda connection: call(connection, scene))
    allowed = budget.buffers(explainer.version) if budget else math.inf
    yield "with values", explainer.custom(sent, allowed)
    yield "prepared", explainer.prepared(sent, allowed)
    yield "generic", explainer.generic(sent, allowed)


def assert_good(
    plan: Plan, how: str, indexes: frozenset[str], budget: Budget, version: int
) -> None:
    assert not plan.whole_scans(), f"{how}: reads a whole table\n{plan.text}"
    assert indexes <= plan.indexes(), f"{how}: {indexes - plan.indexes()} unused\n{plan.text}"
    most = max(plan.sorts(), default=0)
    assert most <= budget.sorted_rows, f"{how}: sorts {most} rows\n{plan.text}"
    allowed = budget.buffers(version)
    assert plan.buffers <= allowed, f"{how}: {plan.buffers} buffers of {allowed}\n{plan.text}"


# Leases come first: what the others leave behind, rolled back but not yet vacuumed, is in
# their way.
@pytest.mark.parametrize("n", [1, 10, 100])
def test_a_lease_reads_the_heads_of_three_indexes(
    n: int, scene: Scene, explainer: Explainer
) -> None:
    """With 100,000 delayed messages beside it, a lease costs 40 buffers and 14 a message."""
    budget = Budget(n, each=14, base=40, sorted_rows=3 * n)
    for how, plan in plans_of(explainer, scene, leased(STEADY, n), budget):
        assert_good(plan, how, ARMS, budget, explainer.version)
        assert_each_arm_by_its_index(plan)


def test_a_lease_walks_over_no_more_expired_messages_than_it_takes(
    scene: Scene, explainer: Explainer
) -> None:
    """After an outage thousands of leases have run out, and each is looked at when it is taken."""
    budget = Budget(1, each=14, base=40, sorted_rows=3)
    for how, plan in plans_of(explainer, scene, leased(BEHIND, 1), budget):
        assert_good(plan, how, ARMS, budget, explainer.version)


@pytest.mark.parametrize("n", [1, 10, 100])
def test_a_lease_pays_for_late_messages_once_and_a_bounded_number_at_a_time(
    n: int, scene: Scene, explainer: Explainer
) -> None:
    """What is due and passed over is moved: 14 buffers a message moved."""
    reach = max(n, PROMOTED_AT_ONCE)
    for how, plan in plans_of(explainer, scene, leased(LATE, n)):
        promoted = plan.rows_taken("promoted")
        assert 0 < promoted <= 2 * reach
        budget = Budget(n + promoted, each=14, base=40, sorted_rows=n + 2 * reach)
        assert_good(plan, how, ARMS, budget, explainer.version)
        assert_each_arm_by_its_index(plan)


def assert_each_arm_by_its_index(plan: Plan) -> None:
    arms = {"ready": READY, "delayed": DELAYED, "expired": LEASED}
    for arm, index in arms.items():
        assert plan.indexes_in(arm) - {PK} == {index}, f"{arm}\n{plan.text}"


def test_a_turn_finishes_before_it_leases(scene: Scene, explainer: Explainer) -> None:
    """A lease locks rows of others for a moment: two turns that lease first wait in a circle.

    Whether a worker may lease is read before each arm looks, and that waits for the finishing.
    """
    for how, plan in plans_of(explainer, scene, TURN[0].call):
        me = Plan(plan.ctes()["me"], "").nodes()
        assert "gone" in {node.get("CTE Name") for node in me}, f"{how}\n{plan.text}"
        for arm in ("ready", "delayed", "expired"):
            (once,) = [
                node["One-Time Filter"]
                for node in Plan(plan.ctes()[arm], "").nodes()
                if "One-Time Filter" in node
            ]
            assert "InitPlan" in once or "$" in once, f"{how}: {once}"


def test_a_lease_is_planned_once(explainer: Explainer) -> None:
    """With statistics as they are in life, the server settles on the generic plan."""
    (sent,) = explainer.capture(lambda connection: leased(STEADY, 1)(connection, analyzed()))
    assert explainer.is_generic(sent)


def analyzed() -> Scene:
    return Scene("analyzed", [], [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_statement_reads_what_it_needs_by_the_index_made_for_it(
    case: Case, scene: Scene, explainer: Explainer
) -> None:
    """No scan of a whole table, no sort of one, and buffers in proportion to what it changes."""
    for how, plan in plans_of(explainer, scene, case.call, case.budget):
        assert_good(plan, how, case.indexes, case.budget, explainer.version)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(lambda c, s: Messages(*bound(c, s)).count_by_fk(IDLE), id="messages"),
        pytest.param(lambda c, s: Archive(*bound(c, s)).count_by_fk(IDLE), id="archive"),
        pytest.param(
            lambda c, s: c.execute(queues.count_rows(s.schema), {"queue": IDLE}), id="both"
        ),
    ],
)
def test_an_exact_count_reads_only_the_rows_it_counts(
    count: Any, scene: Scene, explainer: Explainer
) -> None:
    """Counting a queue that is empty is free, however much the others hold."""
    (sent,) = explainer.capture(lambda connection: count(connection, scene))
    plan = explainer.custom(sent)
    assert not plan.whole_scans(), plan.text
    assert plan.buffers <= 32, plan.text


def bound(connection: Connection, scene: Scene) -> tuple[Connection, Config]:
    return connection, Config.from_dsn("postgresql://unused", schema=scene.schema)
