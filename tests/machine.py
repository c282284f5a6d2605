"""What the machines that compare a queue with its model have in common: how they run, and time."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from sqlalchemy import text

from pgqrs import Admin, Config, Consumer, LeaseLostError
from pgqrs.call import call

MOVE = text(
    "UPDATE pgqrs.pgqrs_messages SET vt = statement_timestamp() - interval '1 hour'"
    " + :place * interval '1 us' WHERE id = :id"
)
"""Let the delay or the lease of `id` end; a higher `place` is due later."""


def run(machine: type[RuleBasedStateMachine], config: Config, **options: Any) -> None:
    """Run a machine, which is given the configuration and an admin; `options` are its settings."""
    with Admin(config) as admin:
        machine.config, machine.admin = config, admin
        checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
        run_state_machine_as_test(
            machine,
            settings=settings(
                deadline=None,
                suppress_health_check=checks,
                report_multiple_bugs=False,
                **options,
            ),
        )


def bury_now(consumer: Consumer) -> None:
    """Bury what the last lease found: otherwise the next one does, where it leased anything."""
    leaser = consumer._steps.leaser
    consumer.binding.run(call(leaser._bury, leaser.terms(1, None)))


def succeeds(act: Any, *arguments: Any) -> bool:
    """Say whether the lease was held that is acted on."""
    try:
        act(*arguments)
    except LeaseLostError:
        return False
    return True
