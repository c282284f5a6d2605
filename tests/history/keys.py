"""Judges messages with one key: one is leased at a time, under `fifo` in their order."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from history.past import Past
from history.records import ENDINGS, LOST, Lease, Operation

ONE_LEASED = {"singleton", "stately", "exclusive", "fifo"}
"""The policies under which one message of a key may be leased at a time."""


def judge_keys(past: Past, policy: str) -> None:
    """Look at the leases of each key, in a queue of this policy."""
    for ids in _groups(past).values():
        leases = [one for each in ids for one in past.leases.get(each, {}).values()]
        if policy in ONE_LEASED:
            _one_leased(past, sorted(leases, key=lambda one: one[0].begun))
        if policy == "fifo":
            _in_order(past, sorted(ids))


def _groups(past: Past) -> dict[str, set[int]]:
    """Give the messages of each singleton or ordering key."""
    group_of = {key: o.group for o in past.operations for key in o.keys if o.group}
    groups: dict[str, set[int]] = defaultdict(set)
    names = {each: row.key for each, row in past.rest.items()} | past.key_of
    for each, leases in past.leases.items():
        names.update((each, lease.key) for lease, _ in leases.values())
    for each, name in names.items():
        if name in group_of:
            groups[group_of[name]].add(each)
    return groups


def _one_leased(past: Past, those: list[tuple[Lease, Operation]]) -> None:
    for (lease, _), (later, taken) in pairwise(those):
        if later.id == lease.id or later.begun >= past.until(lease):
            continue
        back = any(at <= (taken.answered or 0) for at in past.given_back(lease))
        if not back and not _is_finished(past, lease.id, later, taken):
            past.blame("two of a key leased", (lease, later))


def _in_order(past: Past, ids: list[int]) -> None:
    """Once one of a key is leased, the one before it is finished."""
    for before, each in pairwise(ids):
        for later, taken in past.leases.get(each, {}).values():
            if not _is_finished(past, before, later, taken):
                past.blame("leased before its turn", (before, later))


def _is_finished(past: Past, each: int, later: Lease, taken: Operation) -> bool:
    """Say whether a message may have been finished when another one was leased."""
    row = past.rest.get(each)
    if row is not None:
        return row.status is not None and row.ended <= later.begun
    acts = past.acts[each]
    sent = [o.sent for o, _, outcome in acts if o.kind in ENDINGS and outcome != LOST]
    return any(at <= (taken.answered or 0) for at in sent)
