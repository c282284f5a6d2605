"""Queues in the words of pg-boss: a policy, and defaults for the jobs that say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from pgqrs.operations.queues import QueueOptions
from pgqrs.policy import QueuePolicy
from pgqrs.types import Duration, QueueInfo

__all__ = ["Queue", "QueueBuilder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue with its policy and the defaults of its jobs. Durations: timedeltas or seconds.

    A job that says nothing is tried again `retry_limit` times, at once or after `retry_delay`, and
    each attempt has `expire_in`, 15 minutes. Finished jobs are kept for `retain_for`, or for good.
    In what is looked up, None means the default of the configuration.
    """

    name: str
    policy: QueuePolicy = QueuePolicy.STANDARD
    retry_limit: int | None = 2
    retry_delay: Duration | None = 0
    retry_backoff: bool | None = False
    expire_in: Duration | None = 900
    retain_for: Duration | None = None
    dead_letter: str | None = None

    @classmethod
    def builder(cls) -> QueueBuilder:
        """Give a builder, whose methods are named like the fields."""
        return QueueBuilder()

    @classmethod
    def found(cls, info: QueueInfo) -> Queue:
        """Give what a look at the queue says."""
        limit = info.max_attempts
        return cls(
            name=info.queue_name,
            policy=info.policy,
            retry_limit=None if limit is None else limit - 1,
            retry_delay=info.retry_delay,
            retry_backoff=info.retry_backoff,
            expire_in=info.visibility_timeout,
            retain_for=info.retention,
            dead_letter=info.dead_letter,
        )

    def options(self) -> QueueOptions:
        """Give the options that the queue is made with."""
        return QueueOptions(
            visibility_timeout=self.expire_in,
            max_attempts=None if self.retry_limit is None else self.retry_limit + 1,
            retry_delay=self.retry_delay,
            retry_backoff=self.retry_backoff,
            retention=self.retain_for,
            dead_letter=self.dead_letter,
            policy=self.policy,
        )


class QueueBuilder:
    """Makes a Queue, one field after the other; see Queue for what they mean."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def name(self, name: str) -> Self:
        """Set the name."""
        return self._with(name=name)

    def policy(self, policy: QueuePolicy) -> Self:
        """Set the policy, which stays."""
        return self._with(policy=policy)

    def retry_limit(self, limit: int) -> Self:
        """Set how often its jobs are tried again."""
        return self._with(retry_limit=limit)

    def retry_delay(self, delay: Duration) -> Self:
        """Set how long after a failure they are due again."""
        return self._with(retry_delay=delay)

    def retry_backoff(self, doubles: bool = True) -> Self:  # noqa: FBT001, FBT002 - one flag
        """Set whether that doubles each time."""
        return self._with(retry_backoff=doubles)

    def expire_in(self, time: Duration) -> Self:
        """Set how long each attempt may take."""
        return self._with(expire_in=time)

    def retain_for(self, time: Duration) -> Self:
        """Set for how long finished jobs are kept."""
        return self._with(retain_for=time)

    def dead_letter(self, queue: str) -> Self:
        """Set the queue that gets copies of what failed for good."""
        return self._with(dead_letter=queue)

    def build(self) -> Queue:
        """Give the queue. Raises TypeError without a name."""
        return Queue(**self._fields)

    def _with(self, **fields: Any) -> Self:
        self._fields.update(fields)
        return self
