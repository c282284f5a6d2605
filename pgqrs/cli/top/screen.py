"""The loop of `pgqrs top`: what is told and what is typed move the view on, and it is drawn."""

from __future__ import annotations

import os
import queue
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rich.live import Live

from pgqrs.cli.failures import hidden
from pgqrs.cli.top.keys import read, single_keys
from pgqrs.cli.top.picture import BLOCKS, PLAIN, picture
from pgqrs.cli.top.view import Measured, View
from pgqrs.cli.top.watch import Watch
from pgqrs.errors import PgqrsError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pgqrs.admin import Admin

__all__ = ["Screen", "blocks_of"]

_LOOK_EVERY: Final = 0.5
"""Seconds after which it is drawn anew, whatever happens: the terminal may have another size."""


def blocks_of(console: Console) -> str:
    """Give what sparklines are made of on this terminal."""
    return BLOCKS if console.encoding.startswith("utf") else PLAIN


class Screen:
    """Shows a view on a terminal until somebody leaves."""

    def __init__(self, admin: Admin, console: Console, view: View) -> None:
        self.view = view
        self._console = console
        self._told: queue.SimpleQueue[Measured | str | PgqrsError] = queue.SimpleQueue()
        self._bell, self._ring = os.pipe()
        self._watch = Watch(admin, view.interval, self._hear)

    def run(self, terminal: int) -> None:
        """Show, and do what keys say; leaves the terminal as it was."""
        live = Live(console=self._console, screen=True, auto_refresh=False)
        try:
            with single_keys(terminal), live:
                self._watch.start()
                leaves = False
                while not leaves:
                    live.update(self._picture(), refresh=True)
                    leaves = "q" in self._pressed(read(terminal, self._bell, _LOOK_EVERY))
                    self._take_in()
        finally:
            self._watch.stop()

    def press(self, key: str) -> None:
        """Do what a key says; one that says nothing is passed over."""
        view = self.view
        if key in ("up", "down"):
            self.view = view.moved(-1 if key == "up" else 1)
        elif key in ("enter", "back"):
            self.view = replace(view, closer=key == "enter" and bool(view.chosen), said="")
        elif key in ("p", "r") and view.chosen is not None:
            if view.read_only:
                self.view = replace(view, said="read-only: nothing is paused or resumed here")
            else:
                self._watch.order("pause" if key == "p" else "resume", view.chosen)

    def _pressed(self, keys: list[str]) -> list[str]:
        if keys:
            self.view = replace(self.view, said="")
        for key in keys:
            self.press(key)
        return keys

    def _hear(self, news: Measured | str | PgqrsError) -> None:
        self._told.put(news)
        os.write(self._ring, b"\0")

    def _take_in(self) -> None:
        while not self._told.empty():
            news = self._told.get()
            if isinstance(news, Measured):
                self.view = self.view.looked(news)
            elif isinstance(news, PgqrsError):
                self.view = self.view.failed(hidden(str(news)))
            else:
                self.view = replace(self.view, said=news)

    def _picture(self) -> RenderableType:
        width, height = self._console.size
        return picture(self.view, width, height, blocks_of(self._console))
