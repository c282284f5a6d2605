"""What is printed when something goes wrong, and with which status the command exits."""

from __future__ import annotations

import re
import sys
from typing import Final, NoReturn, cast

import typer
from rich.text import Text

from pgqrs.cli.render import console, printable
from pgqrs.errors import ConfigError, PartlyEnqueuedError, PgqrsError, UnavailableError

__all__ = ["UsageError", "abort", "complain", "confirm", "explain_usage", "hidden", "status_of"]

# click's class, or that of the copy of click that newer versions of typer carry.
UsageError: Final = cast("type[Exception]", typer.BadParameter.__mro__[1])

_SECRETS: Final = (
    (re.compile(r"(://[^:/@\s]*):\S*@"), r"\1:***@"),
    (re.compile(r"(password=)[^&\s]*", re.IGNORECASE), r"\1***"),
)


def status_of(error: Exception) -> int:
    """Give the exit status: 2 for configuration and bad values, 3 for no database, else 1."""
    reason = error.__cause__ if isinstance(error, PartlyEnqueuedError) else error
    if isinstance(reason, UnavailableError):
        return 3
    # A ValueError of the library, which is no PgqrsError, is about an argument.
    return 2 if isinstance(error, ConfigError) or not isinstance(error, PgqrsError) else 1


def complain(sentence: str, hint: str = "") -> None:
    """Print an error on standard error, without passwords or control characters."""
    text = Text.assemble(("error: ", "bold red"), printable(hidden(sentence), keep="\n"))
    out = console(sys.stderr)
    out.print(text)
    if hint:
        out.print(hint, style="dim")


def hidden(sentence: str) -> str:
    """Give a sentence without the passwords in it."""
    for pattern, replacement in _SECRETS:
        sentence = pattern.sub(replacement, sentence)
    return sentence


def explain_usage(error: Exception) -> None:
    """Print what is wrong with the command line, and where its help is."""
    message = cast("typer.BadParameter", error).format_message()
    message = message[:1].lower() + message[1:].replace("Value error, ", "").rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "pgqrs"
    complain(message, f"see `{path} --help`")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; exits with 1 unless the answer is yes.

    Asks on standard error, so that standard output holds the result alone.
    """
    if yes:
        return
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    if answer.strip().lower() not in ("y", "yes"):
        abort("aborted, and nothing was changed: answer y, or pass --yes")


def abort(sentence: str) -> NoReturn:
    """Print an error and exit with 1."""
    complain(sentence)
    raise typer.Exit(1)
