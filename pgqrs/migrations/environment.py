"""Finds an application's Alembic environment, and what its env.py must say to have pgqrs in it.

Reads and rewrites the text of env.py; runs nothing of it.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from pgqrs.errors import SchemaError
from pgqrs.models import DEFAULT_SCHEMA

__all__ = ["env_file", "has_plugins", "with_pgqrs"]

_COMPARED: Final = '["alembic.autogenerate.*", "pgqrs"]'


def has_plugins() -> bool:
    """Say whether the installed Alembic has plugins (1.18 and newer)."""
    return importlib.util.find_spec("alembic.runtime.plugins") is not None


def env_file(folder: Path, config: Path | None = None) -> Path:
    """Give the env.py that Alembic would run in `folder`; `config` names its alembic.ini.

    Without it, ALEMBIC_CONFIG, alembic.ini, pyproject.toml and Flask-Migrate's folder are looked
    at. Raises SchemaError where none leads to an env.py.
    """
    named = config or Path(os.environ.get("ALEMBIC_CONFIG") or folder / "alembic.ini")
    ini = None if named.suffix == ".toml" else named
    toml = named if named.suffix == ".toml" else folder / "pyproject.toml"
    found = [str(file) if file and file.is_file() else None for file in (ini, toml)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Alembic thinks of the file is not asked
            settings = AlembicConfig(found[0], toml_file=found[1])
            env = Path(ScriptDirectory.from_config(settings).env_py_location)
    except CommandError as error:
        # Flask-Migrate keeps the two together, and alembic.ini does not say where.
        for ini in (named, folder / "migrations" / "alembic.ini"):
            if ini.is_file() and ini.with_name("env.py").is_file():
                return ini.with_name("env.py")
        raise SchemaError(
            f"no Alembic environment was found by {named} or {toml.name} ({error}): go to the"
            " folder of alembic.ini, name the file with --ini, or make one with `alembic init`"
        ) from error
    if not env.is_file():
        raise SchemaError(f"there is no {env}: mend script_location, or run `alembic init`")
    return env


def with_pgqrs(text: str, schema: str = DEFAULT_SCHEMA, *, plugins: bool) -> str:
    """Give an env.py with what keeps pgqrs's tables out of `--autogenerate`, changed no more.

    By the plugin, or by `include_object` around the application's own. The same text where all is
    there already. Raises SchemaError where it cannot be told what to change.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise SchemaError(f"env.py is no Python: line {error.lineno}, {error.msg}") from error
    calls = [node for node in ast.walk(tree) if _configures_online(node)]
    if not calls:
        raise SchemaError(
            "env.py has no call of context.configure() with connection=…: add "
            f"{', '.join(_keywords(schema, plugins=plugins).values())} to where it configures"
        )
    source = _Source(text)
    edits = [edit for call in calls for edit in _edits(call, source, schema, plugins=plugins)]
    if edits and not plugins and not _imports_migrations(tree):
        edits.append(_Edit(_after_imports(tree, source), 0, "from pgqrs import migrations\n"))
    return source.edited(edits)


@dataclass(frozen=True, slots=True)
class _Edit:
    """Some new text in the place of `length` bytes."""

    at: int
    length: int
    text: str


class _Source:
    """A text by the lines and byte columns that `ast` counts in."""

    def __init__(self, text: str) -> None:
        self.data = text.encode()
        self.lines = self.data.splitlines(keepends=True)

    def start(self, node: ast.expr | ast.keyword) -> int:
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.keyword) -> int:
        return self.offset(node.end_lineno or 0, node.end_col_offset or 0)

    def offset(self, line: int, column: int) -> int:
        return sum(map(len, self.lines[: line - 1])) + column

    def of(self, node: ast.expr) -> str:
        return self.data[self.start(node) : self.end(node)].decode()

    def indentation(self, line: int) -> str:
        text = self.lines[line - 1]
        return text[: len(text) - len(text.lstrip())].decode()

    def edited(self, edits: list[_Edit]) -> str:
        data = self.data
        for edit in sorted(edits, key=lambda edit: edit.at)[::-1]:
            data = data[: edit.at] + edit.text.encode() + data[edit.at + edit.length :]
        return data.decode()


def _configures_online(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "configure"
        and any(keyword.arg == "connection" for keyword in node.keywords)
    )


def _keywords(schema: str, *, plugins: bool) -> dict[str, str]:
    elsewhere = schema != DEFAULT_SCHEMA
    if not plugins:
        named = f'schema="{schema}"' * elsewhere
        return {"include_object": f"include_object=migrations.include_object({named})"}
    wanted = {"autogenerate_plugins": f"autogenerate_plugins={_COMPARED}"}
    return wanted | ({"pgqrs_schema": f'pgqrs_schema="{schema}"'} if elsewhere else {})


def _edits(call: ast.AST, source: _Source, schema: str, *, plugins: bool) -> Iterator[_Edit]:
    assert isinstance(call, ast.Call)  # noqa: S101 - for the type checker
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    for name, written in _keywords(schema, plugins=plugins).items():
        if name not in given:
            yield _added(call, source, written)
        elif name == "include_object":
            yield from _wrapped(given[name], source, schema)
        elif name == "autogenerate_plugins":
            yield from _listed(given[name], source)


def _added(call: ast.Call, source: _Source, written: str) -> _Edit:
    last = call.keywords[-1]
    separator = " "
    if last.lineno > call.lineno:
        separator = "\n" + source.indentation(last.lineno)
    return _Edit(source.end(last), 0, f",{separator}{written}")


def _wrapped(own: ast.expr, source: _Source, schema: str) -> Iterator[_Edit]:
    text = source.of(own)
    if "migrations.include_object" not in text:
        named = f', schema="{schema}"' * (schema != DEFAULT_SCHEMA)
        wrapped = f"migrations.include_object({text}{named})"
        yield _Edit(source.start(own), len(text.encode()), wrapped)


def _listed(own: ast.expr, source: _Source) -> Iterator[_Edit]:
    if not isinstance(own, ast.List) or not own.elts:
        raise SchemaError(f'add "pgqrs" to autogenerate_plugins, which is {source.of(own)}')
    if not any(isinstance(item, ast.Constant) and item.value == "pgqrs" for item in own.elts):
        yield _Edit(source.end(own.elts[-1]), 0, ', "pgqrs"')


def _imports_migrations(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "pgqrs"
        and any(name.name == "migrations" and name.asname is None for name in node.names)
        for node in tree.body
    )


def _after_imports(tree: ast.Module, source: _Source) -> int:
    lines = [n.end_lineno or 0 for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    return source.offset(max(lines, default=0) + 1, 0)
