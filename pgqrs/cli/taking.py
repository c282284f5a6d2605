"""Commands that take many options, of which those that are set are handed on together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["set_ones", "taking"]

Command = Callable[..., None]


def set_ones(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def taking(
    options: Mapping[str, Any], read: Callable[[dict[str, Any]], dict[str, Any]] = set_ones
) -> Callable[[Command], Command]:
    """Give a command these options, names with annotated types; all are None unless given.

    What `read` makes of them comes as the command's argument `given`.
    """

    def take(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True)
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None)
            for name, kind in options.items()
        ]
        places = list(own.parameters)
        kept = list(own.parameters.values())
        at = places.index("given")
        parameters = [*kept[:at], *added, *kept[at + 1 :]]

        @functools.wraps(command)
        def taken(**arguments: Any) -> None:
            given = read({name: arguments.pop(name) for name in options})
            command(**arguments, given=given)

        taken.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        taken.__annotations__ = {each.name: each.annotation for each in parameters}
        return taken

    return take
