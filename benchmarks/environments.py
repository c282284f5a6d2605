"""The programs that contenders run on: a Python or a Node with the packages of one peer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["command", "environment"]

CONTENDERS = Path(__file__).parent / "contenders"


def environment(name: str, requirements: Sequence[str], where: Path) -> str | None:
    """Give the program of an environment with these packages, made if need be; None if it fails."""
    directory = where / name
    stamp = directory / "requirements"
    program, *commands = (npm if script(name) else venv)(directory, requirements)
    if stamp.exists() and stamp.read_text() == "\n".join(requirements):
        return program[0]
    shutil.rmtree(directory, ignore_errors=True)
    for each in (*commands, program):
        if shutil.which(each[0]) is None or subprocess.run(each, check=False).returncode != 0:
            return None
    stamp.write_text("\n".join(requirements))
    return program[0]


def command(program: str, module: str) -> list[str]:
    """Say how a contender is started; its DSN comes after that."""
    found = script(module)
    return [program, str(found)] if found else [program, "-m", f"benchmarks.contenders.{module}"]


def script(name: str) -> Path | None:
    """Give the file of a contender that is a Node program, None for one in Python."""
    path = CONTENDERS / f"{name}.mjs"
    return path if path.exists() else None


def venv(directory: Path, requirements: Sequence[str]) -> list[list[str]]:
    """Say how to try a Python environment, and then how to make it."""
    python = str(directory / "bin" / "python")
    return [
        [python, "-c", ""],
        [sys.executable, "-m", "venv", str(directory)],
        [python, "-m", "pip", "install", "--quiet", *requirements],
    ]


def npm(directory: Path, requirements: Sequence[str]) -> list[list[str]]:
    """Say how to try a Node environment, and then how to make it.

    The package `node` is among what it needs: peers ask for a newer one than systems have.
    """
    quietly = ["--no-audit", "--no-fund", "--loglevel=error"]
    return [
        [str(directory / "node_modules" / "node" / "bin" / "node"), "--eval", ""],
        ["npm", "install", "--prefix", str(directory), *quietly, *requirements],
    ]
