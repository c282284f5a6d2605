"""The reference of the command line, from the commands themselves: each with what its help says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from pgqrs.cli.app import app


def commands(command: Any = None, path: str = "pgqrs") -> Iterator[tuple[str, Any]]:
    """Give each command and group of the tree, by what is typed."""
    node = command or typer.main.get_command(app)
    yield path, node
    for name, inner in getattr(node, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def text() -> str:
    """Write all of it as Markdown."""
    return "\n\n".join(part for path, node in commands() for part in _command(path, node))


def _command(path: str, node: Any) -> Iterator[str]:
    is_group, is_root = hasattr(node, "commands"), path == "pgqrs"
    yield f"{'##' if is_group or path.count(' ') < 2 else '###'} {path}"
    yield _sentence(node.help)
    if is_group and not is_root:
        return
    context = typer.Context(node, info_name=path)
    yield f"```text\n{' '.join([path, *node.collect_usage_pieces(context)])}\n```"
    told = [each.get_help_record(context) for each in node.get_params(context)]
    if rows := [_row(*each) for each in told if each and not each[0].startswith("--help")]:
        yield "\n".join(("| | |", "|---|---|", *rows))
    for said in (node.epilog or "").split("\n\n"):
        about, _, example = said.partition("Example: ")
        yield from ([_sentence(about)] if about else [])
        yield from ([f"```text\n{example}\n```"] if example else [])


def _row(names: str, says: str) -> str:
    return f"| {_cell(f'`{names}`')} | {_cell(_sentence(says))} |"


def _sentence(said: str) -> str:
    return " ".join(said.split())


def _cell(said: str) -> str:
    return said.replace("|", "\\|").replace("[", "\\[")
