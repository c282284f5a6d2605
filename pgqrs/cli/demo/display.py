"""How the demo looks while it runs: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pgqrs.cli.demo.scene import Scene
from pgqrs.cli.render import console

__all__ = ["Display", "display_on"]

_LINE_EVERY_SECONDS: Final = 1.0
_MOST_ROWS: Final = 8
_WIDEST: Final = 100


class Display(Protocol):
    """Shows scenes and tells what happens."""

    def show(self, scene: Scene) -> None:
        """Show how things stand."""

    def tell(self, sentence: str) -> None:
        """Say what happened."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def display_on(stream: TextIO) -> Display:
    """Give the display for a stream: live if a person looks at it."""
    out = console(stream)
    live = out.is_terminal and not out.is_dumb_terminal
    return _LivePicture(out) if live else _Lines(out)


class _Lines:
    """Plain lines, one a second at most, without control characters."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._started = self._shown = time.monotonic()

    def show(self, scene: Scene) -> None:
        now = time.monotonic()
        if now - self._shown >= _LINE_EVERY_SECONDS:
            self._shown = now
            self._print(
                f"pending {scene.pending:,}  leased {scene.leased:,}"
                f"  archived {scene.archived:,} of {scene.total:,}  {scene.rate:,.0f}/s"
            )

    def tell(self, sentence: str) -> None:
        self._print(sentence)

    def _print(self, sentence: str) -> None:
        seconds = time.monotonic() - self._started
        self._out.print(f"{seconds:5.1f} s  {sentence}", soft_wrap=True)
        self._out.file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class _LivePicture:
    """A picture that is drawn over itself; what happened stands below it."""

    def __init__(self, out: Console) -> None:
        self._started = time.monotonic()
        self._events = Table.grid(padding=(0, 1))
        self._events.add_column(justify="right", style="dim", no_wrap=True)
        self._events.add_column()
        self._scene: Scene | None = None
        self._out = out
        self._live = Live(console=out, auto_refresh=False, vertical_overflow="crop")

    def show(self, scene: Scene) -> None:
        self._scene = scene
        self._draw()

    def tell(self, sentence: str) -> None:
        self._events.add_row(f"{time.monotonic() - self._started:.1f} s", sentence)
        self._draw()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def _draw(self) -> None:
        scene = self._scene
        parts: list[RenderableType] = []
        if scene is not None:
            seconds = time.monotonic() - self._started
            width = min(self._out.width, _WIDEST)
            parts = [_progress(scene, seconds, width), _depth(scene), "", _crew(scene), ""]
        self._live.update(Group(*parts, self._events), refresh=True)


def _progress(scene: Scene, seconds: float, width: int) -> Table:
    done = Text.assemble(
        (f" {scene.archived:,}", "bold"), f" of {scene.total:,}", (f"  {seconds:.1f} s", "dim")
    )
    line = Table.grid()
    line.add_row(ProgressBar(scene.total, scene.archived, width=max(width - 28, 10)), done)
    return line


def _depth(scene: Scene) -> Text:
    return Text.assemble(
        "pending ",
        (f"{scene.pending:<8,}", "bold yellow"),
        "leased ",
        (f"{scene.leased:<8,}", "bold cyan"),
        "archived ",
        (f"{scene.archived:<8,}", "bold green"),
        (f"{scene.rate:,.0f}", "bold"),
        " messages/s",
    )


def _crew(scene: Scene) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("consumer", "worker", "state", "holds", "archived"):
        table.add_column(heading, justify="left" if heading == "state" else "right")
    for tally in scene.consumers[-_MOST_ROWS:]:
        gone = tally.pid in scene.killed
        state = Text("killed", "bold red") if gone else Text("works" if tally.holds else "waits")
        table.add_row(
            str(tally.pid),
            str(tally.worker_id),
            state,
            str(tally.holds),
            f"{tally.archived:,}",
            style="red" if gone else "",
        )
    hidden = len(scene.consumers) - _MOST_ROWS
    if hidden > 0:
        table.caption = f"and {hidden} more"
    return table
