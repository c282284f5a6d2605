"""Talk with a contender process, a line each way: see `contenders.answering`."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

__all__ = ["ROOT", "Contender"]

ROOT = Path(__file__).parent.parent
PATIENCE = 900.0
"""Seconds after which a contender that does not answer is ended."""


class Contender:
    """A process that answers questions. It is starting when this is made."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        dsn: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.dsn = dsn
        self._process = subprocess.Popen(
            [*command, dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )

    @cached_property
    def figures(self) -> frozenset[str]:
        """What it answers."""
        return frozenset(self._line()["figures"])

    def await_start(self) -> None:
        """Wait until it can be asked."""
        _ = self.figures

    def ask(self, figure: str, n: int, **more: Any) -> dict[str, Any]:
        """Ask, and give the answer."""
        self.put(figure, n, **more)
        return self.answer()

    def put(self, figure: str, n: int, **more: Any) -> None:
        """Ask, and leave the answer for later."""
        if figure not in self.figures:
            raise ValueError(f"{self.name} does not know {figure!r}")
        self._say(json.dumps({"figure": figure, "n": n, **more}))

    def answer(self, at_mark: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Wait for the answer. At each mark it stops until `at_mark` came back."""
        while "mark" in (answer := self._line()):
            if at_mark is not None:
                at_mark(answer["mark"])
            self._say("")
        if "error" in answer:
            raise RuntimeError(f"{self.name}:\n{answer['error']}")
        return answer

    def close(self) -> None:
        """Let it end, or end it where it does not."""
        try:
            self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._process.kill()
        self.close()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        impatience = threading.Timer(PATIENCE, self._process.kill)
        impatience.start()
        try:
            line = self._process.stdout.readline()
        finally:
            impatience.cancel()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer
