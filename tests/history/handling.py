"""Judges handlers: each lease handled once, and what a handler returned is kept."""

from __future__ import annotations

from history.past import Past
from history.records import ENDINGS, OK, Deed, Fence


def judge_handling(past: Past, deeds: list[Deed]) -> None:
    """A handler has each lease once, while its message is there; what it returned is kept."""
    starts: dict[Fence, Deed] = {}
    returns: dict[Fence, Deed] = {}
    for deed in deeds:
        fence, those = Fence(*deed.lease[:2]), starts if deed.what == "start" else returns
        if fence in those:
            past.blame("handled twice under one lease", (deed, those[fence]))
        those[fence] = deed
    for fence, deed in starts.items():
        lease, _ = past.leases[fence.id].get(fence.read_ct, (None, None))
        if lease != deed.lease:
            past.blame("handled without a lease", (deed, lease))
        # Who slept past its lease may begin under it when another's is over, and is refused.
        acts = [o for o, f, out in past.acts[fence.id] if out == OK and f <= fence]
        ended = [o.answered for o in acts if o.kind in ENDINGS and o.answered]
        if any(answered < deed.at for answered in ended):
            past.blame("handled after its end", deed)
    for each, row in past.rest.items():
        returned = returns.get(Fence(each, row.read_ct))
        if row.status != "completed":
            continue
        acts = [o for o, f, _ in past.acts[each] if f == (each, row.read_ct)]
        ends = [o.sent for o in acts if o.kind in ENDINGS]
        if returned is None or any(sent < returned.at for sent in ends):
            past.blame("completed before it was done", row)
        if row.output != {"id": each, "read_ct": row.read_ct}:
            past.blame("another handler's output", row)
