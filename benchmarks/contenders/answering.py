"""What each contender process does: answer questions on standard input, a line each.

Only the standard library is used, so that it works in any environment. A question is
``{"figure": …, "n": …}``; the answer is how many seconds it took and how much CPU, without the
preparation, and what else the figure has to say. A question may also have `size` (of the payload,
in bytes), `rate` (messages a second, of "pace") and `marks`: then the contender says when it begins
and ends what is timed, and waits for a line each time.
"""

from __future__ import annotations

import json
import random
import string
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

BODY = {"text": "x" * 188}
"""The payload of every message: 200 bytes of JSON, unless a question says another size."""

FEW, MANY = 100, 500
"""Messages taken at once: by default, and as many as Graphile Worker's local queue is given."""

LETTERS = string.ascii_letters + string.digits


class Watch:
    """Times what a figure says is to be timed; `asked` is the question."""

    def __init__(self, asked: dict[str, Any] | None = None) -> None:
        self.asked = asked or {}
        self.seconds = 0.0
        self.cpu = 0.0
        self.extra: dict[str, Any] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        self._mark("begin")
        cpu, begun = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begun
            self.cpu += time.process_time() - cpu
            self._mark("end")

    def _mark(self, mark: str) -> None:
        if self.asked.get("marks"):
            say({"mark": mark})
            sys.stdin.readline()


Figure = Callable[[Watch, int], None]


def answer(figures: Mapping[str, Figure], close: Callable[[], None]) -> None:
    """Answer until standard input ends. The first line says which figures there are."""
    say({"figures": sorted(figures)})
    usual = BODY["text"]
    for line in sys.stdin:
        question = json.loads(line)
        watch = Watch(question)
        BODY["text"] = filling(question["size"]) if "size" in question else usual
        try:
            figures[question["figure"]](watch, question["n"])
        except Exception:  # noqa: BLE001 - it is for the one who asked
            say({"error": traceback.format_exc()})
            continue
        say({"seconds": watch.seconds, "cpu": watch.cpu, **watch.extra})
    close()


def say(what: dict[str, Any]) -> None:
    """Write a line to whoever asks."""
    sys.__stdout__.write(json.dumps(what) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def filling(size: int) -> str:
    """Give text with which `BODY` has `size` bytes, such as hardly compresses."""
    return "".join(random.Random(size).choices(LETTERS, k=max(size - 12, 0)))


def now() -> float:
    """Give the instant on a clock that all processes of a machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def instants(watch: Watch, n: int) -> Iterator[dict[str, Any]]:
    """Give `n` payloads, each at its instant: its number, and the time at which it was given."""
    rate = watch.asked["rate"]
    begun = now()
    for number in range(n):
        time.sleep(max(begun + number / rate - now(), 0))
        yield {**BODY, "number": number, "at": now()}


class Seen:
    """What the handlers of "await" saw: the answer has number, sending and handling of each."""

    def __init__(self, watch: Watch, n: int) -> None:
        self._left = set(range(n))
        self._times: list[tuple[int, float, float]] = []
        watch.extra["seen"] = self._times

    def add(self, payload: dict[str, Any]) -> bool:
        """Note a message that is being handled; says whether it was the last to come."""
        self._times.append((payload["number"], payload["at"], now()))
        self._left.discard(payload["number"])
        return not self._left
