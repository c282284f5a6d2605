"""Ask all contenders in turn, round after round, so that what disturbs one disturbs all."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.environments import command

__all__ = ["Asked", "Contender", "Result", "rates"]

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Asked:
    """A figure, and how many messages it takes in a round."""

    figure: str
    n: int


@dataclass
class Result:
    """What a contender reached in each round, in messages a second."""

    contender: str
    figure: str
    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rates)


class Contender:
    """A process that answers questions; see `contenders.answering`."""

    def __init__(self, name: str, program: str, module: str, dsn: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [*command(program, module), dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.figures: list[str] = self._answer()["figures"]

    def ask(self, asked: Asked) -> float:
        """Give how many messages a second it did."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"figure": asked.figure, "n": asked.n}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"{self.name}, {asked.figure}:\n{answer['error']}")
        return asked.n / float(answer["seconds"])

    def close(self) -> None:
        """Let it end."""
        self._process.communicate(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def rates(
    contenders: Sequence[Contender],
    figures: Iterable[Asked],
    rounds: int,
    tell: Callable[[str], None],
) -> list[Result]:
    """Warm up once, then measure each figure of each contender in each round."""
    asked = [(one, each) for each in figures for one in contenders if each.figure in one.figures]
    results = {(one.name, each.figure): Result(one.name, each.figure) for one, each in asked}
    for number in range(rounds + 1):
        for one, each in asked:
            tell(f"round {number} of {rounds}: {each.figure}, {one.name}")
            rate = one.ask(each)
            if number:
                results[one.name, each.figure].rates.append(rate)
    return list(results.values())
