"""Judges single messages: each enqueued once, leased by one at a time, ended once."""

from __future__ import annotations

from collections import Counter

from history.past import Past
from history.records import BACK, ENDINGS, LOST, OK, Fence, Operation


def judge_messages(past: Past) -> None:
    """Look at what was sent, at what nobody saw, and at the life of each message."""
    _keys(past)
    _gaps(past)
    for each in past.ids():
        for judge in (_leases, _acts, _endings, _deaths, _at_rest):
            judge(past, each)


def _keys(past: Past) -> None:
    """What was enqueued is there once; what nobody enqueued is not."""
    sent = Counter(key for operation in past.operations for key in operation.keys)
    ids: dict[str, int] = {}
    for each, key in [*past.key_of.items(), *((r.id, r.key) for r in past.rest.values())]:
        if ids.setdefault(key, each) != each:
            past.blame("one message twice", (key, each, ids[key]))
        if sent[key] != 1:
            past.blame("a message from nowhere", (key, each))
        if past.key_of.get(each, key) != key:
            past.blame("another message's payload", (key, each))
    for leases in past.leases.values():
        for lease, _ in leases.values():
            if ids.setdefault(lease.key, lease.id) != lease.id or not sent[lease.key]:
                past.blame("another message's payload", lease)


def _gaps(past: Past) -> None:
    """A count nobody saw belongs to a lease whose taker was killed before it could say so."""
    unknown = sum(o.size for o in past.operations if o.kind == "lease" and o.answered is None)
    unseen = sum(past.count(each) - len(past.leases[each]) for each in [*past.leases])
    unseen += sum(row.read_ct for each, row in past.rest.items() if each not in past.leases)
    if unseen > unknown:
        past.blame("leases that nobody took", (unseen, unknown))


def _leases(past: Past, each: int) -> None:
    """One lease at a time: the next begins when the last has run out or was given back."""
    for lease, following in past.pairs(each):
        back = [f for o, f, out in past.acts[each] if o.kind == "release" and out != LOST]
        if lease.read_ct - sum(f.read_ct < lease.read_ct for f in back) > past.limit:
            past.blame("leased beyond the limit", lease)
        if following is None:
            continue
        later, taken = following
        if later.begun <= lease.begun:
            past.blame("read_ct did not rise with time", (lease, later))
        if later.begun >= past.until(lease):  # it had run out, whatever was said of it since
            continue
        given_back = past.given_back(lease)
        if not given_back:
            past.blame("leases overlap", (lease, later))
        elif (taken.answered or 0) < min(given_back):
            past.blame("leased before it was given back", (lease, later))


def _acts(past: Past, each: int) -> None:
    """Who acts holds the lease; who is told that it was lost, had lost it."""
    ended = [o.answered for o, _, out in past.acts[each] if o.kind in ENDINGS and out == OK]
    for operation, fence, outcome in past.acts[each]:
        if fence.read_ct not in past.leases[each]:
            past.blame("acted on without a lease", (operation.kind, fence))
        if outcome == OK and any(answer and operation.sent > answer for answer in ended):
            past.blame("acted on after its end", (operation.kind, fence))
        if outcome == LOST and not _has_lost(past, each, operation, fence):
            past.blame("told lost without reason", (operation.kind, fence))


def _has_lost(past: Past, each: int, operation: Operation, fence: Fence) -> bool:
    row = past.rest.get(each)
    if past.count(each) > fence.read_ct or (row is not None and row.status == "dead"):
        return True
    lease = past.leases[each].get(fence.read_ct)
    ran_out = lease is not None and operation.kind == "extend"
    others = [o for o, f, out in past.acts[each] if f == fence and out != LOST]
    return ran_out or any(o.kind in (*ENDINGS, *BACK) for o in others)


def _endings(past: Past, each: int) -> None:
    """One terminal transition, and under the last lease there was."""
    done = [(o, f) for o, f, out in past.acts[each] if o.kind in ENDINGS and out == OK]
    row = past.rest.get(each)
    otherwise = row is not None and row.status not in {None, "completed"}
    if len(done) + otherwise > 1:
        past.blame("ended twice", (each, [(o.kind, f) for o, f in done], row))
    for operation, fence in done:
        if fence.read_ct != past.count(each):
            past.blame("ended under a lease that was over", (operation.kind, fence))
        if operation.kind == "delete" and row is not None:
            past.blame("deleted and still there", row)
        same = (fence.read_ct, operation.worker, "completed")
        if operation.kind == "archive" and (
            row is None or (row.read_ct, row.worker, row.status) != same
        ):
            past.blame("not at rest as it was archived", (fence, row))


def _deaths(past: Past, each: int) -> None:
    """Dead is what failed, or ran out, under its last lease."""
    row = past.rest.get(each)
    last = past.leases.get(each, {}).get(past.count(each))
    if row is None or row.status != "dead" or last is None:
        return
    if row.ended < past.until(last[0]) and row.ended and not past.given_back(last[0]):
        past.blame("dead under a lease", (row, last[0]))


def _at_rest(past: Past, each: int) -> None:
    """What is at rest, or is not, is what clients did or may have done."""
    row, acts = past.rest.get(each), past.acts[each]
    may = {(o.kind, f.read_ct, o.worker) for o, f, out in acts if out != LOST}
    if row is None:
        if not any(kind == "delete" for kind, _, _ in may):
            past.blame("a message was lost", each)
        return
    if row.read_ct < past.count(each):
        past.blame("a lease that left no trace", (row, past.count(each)))
    if row.status == "completed" and ("archive", row.read_ct, row.worker) not in may:
        past.blame("archived by nobody", row)
    attempts = row.read_ct - row.returned_ct
    if attempts > past.limit or (row.status == "dead" and attempts < past.limit):
        past.blame("dead and the limit do not agree", row)
    returned = [out for o, f, out in acts if o.kind == "release"]
    if not returned.count(OK) <= row.returned_ct <= len(returned) - returned.count(LOST):
        past.blame("given back more or less often than done", row)
