"""The options of a message on a command line, for each command that sends one."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any, Final

import typer

from pgqrs.cli.taking import set_ones, taking

__all__ = ["taking_message_options"]


def _instant(text: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"it is like 2030-01-31T09:00+01:00, not {text!r}") from None


def _flag(name: str, text: str, **more: Any) -> Any:
    return typer.Option(f"--{name}", help=text, **more)


def _seconds(name: str, text: str) -> Any:
    return Annotated[float | None, _flag(name, text, min=0, metavar="SECONDS")]


def _text(name: str, text: str, metavar: str) -> Any:
    return Annotated[str | None, _flag(name, text, metavar=metavar)]


_RANKS: Final = {"min": -32768, "max": 32767, "metavar": "N"}
_LIMITS: Final = {"min": 1, "max": 1_000_000, "metavar": "N"}
_OPTIONS: Final[dict[str, Any]] = {
    "priority": Annotated[
        int | None, _flag("priority", "Higher ones are leased first; 0 unless given.", **_RANKS)
    ],
    "delay": _seconds("delay", "How long until it is due."),
    "deliver_at": Annotated[
        dt.datetime | None,
        _flag("deliver-at", "When it is due; in local time, unless it says.", parser=_instant),
    ],
    "max_attempts": Annotated[
        int | None, _flag("max-attempts", "Leases before it is dead.", **_LIMITS)
    ],
    "retry_delay": _seconds("retry-delay", "When it is due again after a failed attempt."),
    "retry_delay_max": _seconds("retry-delay-max", "The most that its retries are apart."),
    "retry_backoff": Annotated[
        bool | None,
        typer.Option("--backoff/--no-backoff", help="Whether that doubles with each attempt."),
    ],
    "expire_in": _seconds("expire-in", "How long each lease lasts, whatever the reader says."),
    "retain_for": _seconds("retain-for", "How long it is kept, at least."),
    "dead_letter": _text("dead-letter", "The queue for a copy when it dies; '' for none.", "NAME"),
    "singleton_key": _text("singleton-key", "Its key under policy or window.", "KEY"),
    "singleton_for": _seconds("singleton-for", "How long no other of its key gets in."),
    "ordering_key": _text("ordering-key", "Its key in a queue of policy fifo.", "KEY"),
    "message_id": Annotated[
        uuid.UUID | None, _flag("message-id", "An id of its own.", metavar="UUID")
    ],
    "headers": Annotated[
        list[str] | None, _flag("header", "A header; may be repeated.", metavar="NAME=TEXT")
    ],
    "on_conflict": Annotated[
        bool | None, _flag("skip-conflict", "Where another one keeps it out, that is no error.")
    ],
}


def _given(options: dict[str, Any]) -> dict[str, Any]:
    options["headers"] = dict(map(_header, options["headers"] or ())) or None
    options["on_conflict"] = "skip" if options["on_conflict"] else None
    return set_ones(options)


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"a header is NAME=TEXT, not {text!r}", param_hint="'--header'")
    return name, value


taking_message_options: Final = taking(_OPTIONS, _given)
"""Give a command the options of a message; those that are set come as its argument `given`."""
