"""Runs what the documentation shows to be typed in a shell.

Commands of `pgqrs` run in this process, by the function that the program itself calls; whatever
else there is, or uses more of a shell than quotes, is left to bash. What goes on until it is told
to end gets a terminal of its own, and is told when it is at it. What cannot be run here is listed
once, in NOT_RUN, each with what is looked at instead.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import typer

from pgqrs.cli.app import app, run

ROOT: Final = Path(__file__).parent.parent
PLAIN: Final = re.compile(r"([A-Z_]+=\S* )*pgqrs [^|<>;&`$*]*( < \S+)?")
GOES_ON: Final = {
    r"(python -m pgqrs\.|pgqrs )embedded": rb"postgresql://",
    r"pgqrs metrics --listen": rb"http://",
    r"pgqrs message read .*--follow": rb"\d",
    r"pgqrs top(?!.*--(once|format))": rb"pgqrs top",
    r"pgqrs worker run": rb"worked at",
}
"""Commands that go on until they are told to end, and what they show when they are at it; the
handlers of the documentation's workers say that they worked."""
PROGRAMS: Final = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def lines_of(block: str) -> Iterator[str]:
    """The commands of a block; a backslash at the end of a line goes on with the next."""
    for line in block.replace("\\\n", " ").splitlines():
        command = line.partition(" #")[0].strip()
        if command and not command.startswith("#"):
            yield command


def type_in(block: str, environment: dict[str, str]) -> None:
    """Run the commands of a block; what one exports, later ones have too, as in one terminal."""
    for line in lines_of(block):
        if reason := not_run(line):
            reason.instead(line)
        elif exported := re.fullmatch(r"export (\w+)=(.*)", line):
            environment[exported[1]] = "".join(shlex.split(exported[2]))
        elif shows := next((GOES_ON[each] for each in GOES_ON if re.search(each, line)), None):
            until_told_to_end(line, shows, environment)
        elif PLAIN.fullmatch(re.sub(r"'[^']*'", "", line)):
            in_this_process(line, environment)
        else:
            in_bash(line, environment)


def in_this_process(line: str, environment: dict[str, str]) -> None:
    line, _, read = line.partition(" < ")
    words = shlex.split(line)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        while assigned := re.fullmatch(r"([A-Z_]+)=(.*)", words[0]):
            patch.setenv(assigned[1], assigned[2])
            words.pop(0)
        with Path(read or os.devnull).open() as given:
            patch.setattr(sys, "stdin", given)
            status = run(words[1:])
    assert status == 0, f"status {status}: {line}"


def in_bash(line: str, environment: dict[str, str]) -> None:
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        env=os.environ | environment | {"PATH": PROGRAMS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, f"{line}\n{result.stdout}{result.stderr}"


def until_told_to_end(line: str, shows: bytes, environment: dict[str, str]) -> None:
    """Run in a terminal until it shows that it is at it, and then until SIGTERM ended it well."""
    leader, follower = pty.openpty()
    program = subprocess.Popen(
        ["bash", "-c", f"exec {line}"],
        env=os.environ | environment | {"PATH": PROGRAMS, "TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    try:
        while not re.search(shows, shown):
            assert select.select([leader], [], [], 60)[0], f"{line} shows only {shown!r}"
            shown += os.read(leader, 65536)
        program.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while more := os.read(leader, 65536):
                shown += more
        assert program.wait(30) == 0, f"{line}\n{shown.decode()}"
    finally:
        program.kill()
        program.wait()
        os.close(leader)


class NotRun(NamedTuple):
    """Commands that are not run here."""

    pattern: str
    why: str
    instead: Callable[[str], None]


def not_run(line: str) -> NotRun | None:
    return next((each for each in NOT_RUN if re.match(each.pattern, line)), None)


def says_a_target(line: str) -> None:
    """Targets of make, and their variables, are in the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for word in shlex.split(line)[1:]:
        variable = re.match(r"[A-Z_]+(?==)", word)
        wanted = rf"^{variable[0]} \?=" if variable else rf"^{word}:"
        assert re.search(wanted, makefile, re.MULTILINE), f"the Makefile has no {word}"


def says_an_extra(line: str) -> None:
    """What pip is asked for is pgqrs, with extras that it has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.search(r"'pgqrs(?:\[([\w,]+)\])?'|pgqrs$", line)
    assert wanted, line
    for extra in (wanted[1] or "").split(","):
        assert not extra or extra in extras["optional-dependencies"], extra


def says_what_the_command_takes(line: str) -> None:
    """The command is there and takes these options; it is not executed."""
    command: Any = typer.main.get_command(app)
    name, *words = shlex.split(line)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    command.make_context(name, words)


def is_there(line: str) -> None:
    """The file that is named last is there."""
    assert (ROOT / shlex.split(line)[-1]).exists(), line


def nothing(_line: str) -> None:
    """Nothing of ours can be looked at."""


NOT_RUN: Final = (
    NotRun(r"make ", "CI is made of them", says_a_target),
    NotRun(r"pip install ", "it would change the environment of the tests", says_an_extra),
    NotRun(r"pgqrs demo", "tests/test_demo.py does, for many seconds", says_what_the_command_takes),
    NotRun(r"createuser ", "roles are of a whole server", nothing),
    NotRun(r"pgqrs (grant|revoke)", "tests/test_rights.py does", says_what_the_command_takes),
    NotRun(r'PGQRS_DSN="', "there is no such server", nothing),
    NotRun(r"PGQRS_PG_BINDIR=", "those binaries are not on every machine", nothing),
    NotRun(r"\.ci/run", "CI is that", is_there),
    NotRun(r"\.venv/bin/pre-commit ", "it changes the checkout", nothing),
    NotRun(r"python -m benchmarks", "it measures, for minutes", nothing),
    NotRun(
        r"(sudo |docker |kubectl |systemctl )", "what is asked is not on every machine", nothing
    ),
)
