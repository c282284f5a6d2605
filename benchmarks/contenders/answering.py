"""What each contender process does: answer questions on standard input, a line each.

Only the standard library is used, so that it works in any environment. A question is
``{"figure": …, "n": …}``; the answer is how many seconds it took, without the preparation.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

BODY = {"text": "x" * 188}
"""The payload of every message: 200 bytes of JSON."""


class Watch:
    """Times what a figure says is to be timed."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.extra: dict[str, Any] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begun


Figure = Callable[[Watch, int], None]


def answer(figures: dict[str, Figure], close: Callable[[], None]) -> None:
    """Answer until standard input ends. The first line says which figures there are."""
    say({"figures": sorted(figures)})
    for line in sys.stdin:
        question = json.loads(line)
        watch = Watch()
        try:
            figures[question["figure"]](watch, question["n"])
        except Exception:  # noqa: BLE001 - it is for the one who asked
            say({"error": traceback.format_exc()})
            continue
        say({"seconds": watch.seconds, **watch.extra})
    close()


def say(what: dict[str, Any]) -> None:
    """Write a line to whoever asks."""
    sys.__stdout__.write(json.dumps(what) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]
