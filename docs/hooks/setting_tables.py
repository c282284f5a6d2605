"""The tables of settings, from the model: what each takes, its default and its docstring."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pgqrs.config import Config
from pgqrs.validation import ValidationConfig


def settings() -> str:
    """Write the settings of Config."""
    return _table(Config)


def rules() -> str:
    """Write the rules of ValidationConfig."""
    return _table(ValidationConfig)


def documented(model: type[BaseModel]) -> dict[str, str]:
    """Give the docstring of each field that has one."""
    body = cast("ast.ClassDef", ast.parse(inspect.getsource(model)).body[0]).body
    return {
        one.target.id: " ".join(after.value.value.split())
        for one, after in pairwise(body)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
        and isinstance(after.value.value, str)
    }


def _table(model: type[BaseModel]) -> str:
    says = documented(model)
    rows = ["| Setting | Default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        told = " ".join(filter(None, (says.get(name, "").rstrip("."), _bounds(field))))
        rows.append(f"| `{field.alias or name}` | {_default(field.default)} | {told} |")
    return "\n".join(rows)


def _default(default: Any) -> str:
    shown = default.get_secret_value() if hasattr(default, "get_secret_value") else default
    if shown is None or isinstance(shown, BaseModel | frozenset):
        return ""
    return f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"


def _bounds(field: FieldInfo) -> str:
    """Say between what a whole number may be; what a duration may be needs no saying."""
    notes = [*field.metadata, *_inside(field.annotation)]
    least = [f"at least {note.ge:,}" for note in notes if isinstance(note, Ge)]
    most = [f"at most {note.le:,}" for note in notes if isinstance(note, Le)]
    whole = field.annotation is int or int in getattr(field.annotation, "__args__", ())
    return f"({', '.join([*least, *most])})" if whole and (least or most) else ""


def _inside(annotation: Any) -> Iterator[Any]:
    """Give the bounds of `Annotated[…] | None`."""
    for each in getattr(annotation, "__args__", ()):
        for note in getattr(each, "__metadata__", ()):
            yield from getattr(note, "metadata", [note])
