"""Draw a view: a pure function of values, for any width and height."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgqrs.cli.render import counted, printable
from pgqrs.cli.top.view import View
from pgqrs.queue_metrics import QueueMetrics
from pgqrs.types import WorkerHealth

__all__ = ["picture", "sparkline"]

BLOCKS: Final = "▁▂▃▄▅▆▇█"
PLAIN: Final = "_.:-=+*#"
_WIDE: Final = 120
_KEYS: Final = "up/down choose   p pause   r resume   enter look closer   b back   q leave"
_KEYS_TO_LOOK: Final = "up/down choose   enter look closer   b back   q leave"


def picture(view: View, width: int, height: int, blocks: str = BLOCKS) -> RenderableType:
    """Draw everything in so many columns and lines; `blocks` are the steps of sparklines."""
    parts: list[RenderableType] = [_head(view)]
    if view.measured is None:
        return Group(*parts, Text("measuring …" if view.trouble is None else ""), _foot(view))
    parts.append(_totals(view))
    room = max(
        height - 8 - (view.trouble is not None), 4
    )  # lines beside the rows of the two tables
    if view.closer and (queue := view.chosen_queue) is not None:
        parts.append(_closer(queue, view.depths.get(queue.queue_name, ()), width, blocks))
        workers = [w for w in view.measured.workers if w.worker.queue_id == queue.queue_id]
        parts.append(_workers(workers, view.queues, width, max(room - 10, 2)))
    else:
        shown = _around(view, room - min(len(view.measured.workers), room // 2))
        none = Text("there are no queues: pgqrs queue create NAME", "dim")
        parts.append(_queues(shown, view, width, blocks) if shown else none)
        left = max(room - len(shown), 2)
        parts.append(_workers(view.measured.workers, view.queues, width, left))
    return Group(*parts, _foot(view))


def sparkline(depths: Sequence[int], width: int, blocks: str = BLOCKS) -> str:
    """Draw the last depths, the greatest as the full block; nothing is the lowest."""
    last = depths[-width:]
    most = max(last, default=0)
    steps = len(blocks) - 1
    return "".join(blocks[-(-depth * steps // most) if most else 0] for depth in last).rjust(width)


def _head(view: View) -> Text:
    line = Text("pgqrs top", "bold", no_wrap=True, overflow="ellipsis")
    if view.measured is not None:
        stats = view.measured.stats
        about = f"{stats.database}/{stats.schema} on PostgreSQL {stats.server_version.split()[0]}"
        line.append(f"  {printable(about)}  {view.measured.at:%H:%M:%S}", "default not bold")
    if view.live:
        line.append(f"  every {view.interval:g} s", "dim")
    if view.read_only:
        line.append("  read-only", "dim")
    if view.trouble is not None:
        what = printable(" ".join(view.trouble.split()))
        line.append(f"\ncannot measure, trying again: {what}", "bold red")
    return line


def _totals(view: View) -> Text:
    assert view.measured is not None  # noqa: S101 - the caller looked
    stats = view.measured.stats
    more = "+" if stats.capped else ""
    dead_rows = sum(table.dead_rows for table in stats.tables)
    size = sum(table.table_bytes + table.index_bytes for table in stats.tables)
    first = (
        f"{stats.pending:,}{more} pending  {stats.delayed:,} delayed  {stats.locked:,} leased  "
        f"{stats.dead:,} dead  in {_rate(stats.rate_in)}/s  out {_rate(stats.rate_out)}/s"
    )
    second = (
        f"{counted(stats.ready_workers, 'worker')} ready  {stats.suspended_workers:,} suspended  "
        f"{stats.stale_workers:,} stale   {size / 2**20:,.1f} MiB  {dead_rows:,} dead rows"
    )
    return Text(f"{first}\n{second}", no_wrap=True, overflow="ellipsis")


def _queues(shown: Sequence[QueueMetrics], view: View, width: int, blocks: str) -> Table:
    wide = width >= _WIDE
    span = 40 if wide else 10
    table = _table(width)
    table.add_column("queue", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("pending", "delayed", "leased", "dead", *(("archived",) if wide else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("in/s", "out/s", "oldest"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("depth", no_wrap=True, width=span)
    for queue in shown:
        counts = [queue.pending, queue.delayed, queue.locked, queue.dead]
        counts += [queue.archived] if wide else []
        chosen = queue.queue_name == view.chosen
        table.add_row(
            _name(queue, chosen=chosen),
            *(_count(number, queue.limit) for number in counts),
            _rate(queue.rate_in),
            _rate(queue.rate_out),
            _age(queue.oldest_pending_age),
            Text(sparkline(view.depths.get(queue.queue_name, ()), span, blocks), "cyan"),
            style="reverse" if chosen else "",
        )
    return table


def _name(queue: QueueMetrics, *, chosen: bool) -> Text:
    name = Text("> " if chosen else "  ")
    if queue.paused:
        name.append("|| ", "yellow")
    return name.append(printable(queue.queue_name))


def _closer(queue: QueueMetrics, depths: Sequence[int], width: int, blocks: str) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    types = ", ".join(f"{kind}: {n:,}" for kind, n in queue.unhandled_types.items())
    rows = {
        "queue": queue.queue_name + (" (paused)" if queue.paused else ""),
        "pending": _count(queue.pending, queue.limit),
        "delayed": _count(queue.delayed, queue.limit),
        "leased": _count(queue.locked, queue.limit),
        "archived": _count(queue.archived, queue.limit),
        "dead": _count(queue.dead, queue.limit),
        "oldest": _age(queue.oldest_pending_age),
        "in and out": f"{_rate(queue.rate_in)}/s   {_rate(queue.rate_out)}/s",
        "no handler": types or "-",
        "depth": sparkline(depths, min(width - 14, 100), blocks).lstrip(),
    }
    for name, value in rows.items():
        table.add_row(name, printable(value))
    return table


def _workers(
    workers: Sequence[WorkerHealth], queues: Sequence[QueueMetrics], width: int, room: int
) -> Table:
    names = {queue.queue_id: queue.queue_name for queue in queues}
    table = _table(width)
    for name in ("worker", "role"):
        table.add_column(name, no_wrap=True)
    for name in ("queue", "place"):
        table.add_column(name, ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("state", no_wrap=True)
    for name in ("beat", "held"):
        table.add_column(name, justify="right", no_wrap=True)
    first = sorted(workers, key=lambda w: (w.healthy, -w.held_messages, w.worker.id))
    hidden = len(first) - room
    for each in first[: room if hidden <= 0 else room - 1]:
        table.add_row(*_of_worker(each, names))
    if hidden > 0:
        table.add_row("", "", Text(f"and {hidden + 1:,} more", "dim"))
    if not workers:
        table.add_row("", "", Text("no worker is registered", "dim"))
    return table


def _of_worker(each: WorkerHealth, queues: Mapping[int, str]) -> list[str | Text]:
    worker = each.worker
    return [
        str(worker.id),
        worker.role.value,
        printable(queues.get(worker.queue_id or 0, "-")),
        printable(f"{worker.hostname}:{worker.port or worker.pid}"),
        _state(each),
        _age(each.heartbeat_age),
        f"{each.held_messages:,}",
    ]


def _state(each: WorkerHealth) -> Text:
    if not each.healthy:
        return Text("stale", "bold red")
    return Text(each.worker.status.value, "green" if each.worker.status == "ready" else "yellow")


def _around(view: View, room: int) -> Sequence[QueueMetrics]:
    """Give the queues that fit, the chosen one among them."""
    names = [queue.queue_name for queue in view.queues]
    place = names.index(view.chosen) if view.chosen in names else 0
    start = max(min(place - room // 2, len(names) - room), 0)
    return view.queues[start : start + room]


def _foot(view: View) -> Text:
    said = Text(printable(view.said), "bold", no_wrap=True, overflow="ellipsis")
    if not view.live:
        return said
    keys = _KEYS_TO_LOOK if view.read_only else _KEYS
    return Text.assemble(said, "\n", (keys, "dim"))


def _table(width: int) -> Table:
    return Table(box=None, pad_edge=False, width=width, header_style="bold underline")


def _count(number: int, limit: int | None) -> str:
    return f"{number:,}" + ("+" if limit is not None and number >= limit else "")


def _rate(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _age(age: dt.timedelta | None) -> str:
    if age is None:
        return "-"
    seconds = max(age.total_seconds(), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
