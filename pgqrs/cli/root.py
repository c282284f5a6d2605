"""The root of the command tree: global options may stand anywhere, and help costs little.

Not for what the options mean, which is in `options`.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

import typer
from typer.core import TyperGroup

__all__ = ["Root"]

_HELP: Final = "--help"


class Root(TyperGroup):
    """The group of all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what comes before the command, after moving the global options there.

        Help is found first, and alone: parsing values loads far more than printing help does.
        """
        first, rest, flagged = self._sorted(args)
        if not ctx.resilient_parsing:
            command, context, left = self._walk(ctx, rest)
            asked = _HELP in rest[: rest.index("--") if "--" in rest else None]
            if asked or not (left or flagged or not hasattr(command, "commands")):
                typer.echo(command.get_help(context))
                ctx.exit(0 if asked else 2)
        return super().parse_args(ctx, [*first, *rest])

    def _walk(self, context: Any, words: list[str]) -> tuple[Any, Any, list[str]]:
        """Follow the names of commands; gives the last, its context, and the words after it."""
        command: Any = self
        for index, word in enumerate(words):
            found = getattr(command, "commands", {}).get(word)
            if found is None:
                return command, context, words[index:]
            context = type(context)(found, info_name=word, parent=context)
            command = found
        return command, context, []

    def _sorted(self, args: list[str]) -> tuple[list[str], list[str], bool]:
        """Tell the global options from the rest, up to `--`, and whether one is a flag."""
        flags = {n for p in self.params if getattr(p, "is_flag", False) for n in p.opts} - {_HELP}
        valued = {n for p in self.params for n in p.opts} - flags - {_HELP}
        first: list[str] = []
        rest: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                rest += [word, *words]
            elif word in flags or ("=" in word and word.partition("=")[0] in valued):
                first.append(word)
            elif word in valued:
                first += [word, *islice(words, 1)]
            else:
                rest.append(word)
        return first, rest, not flags.isdisjoint(first)
