"""The layers of the package, from the contract that the linter of imports holds it to."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def layers() -> list[list[str]]:
    """Give the layers from top to bottom; modules of one layer do not import each other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    return [layer.split(" : ") for layer in contract["layers"]]


def text() -> str:
    """Write them as a table: each module with the first sentence of its docstring."""
    rows = ["| | | |", "|---|---|---|"]
    for number, layer in enumerate(layers(), 1):
        rows += [f"| {number} | `{name}` | {_opening(name)} |" for name in layer]
    return "\n".join(rows)


def _opening(name: str) -> str:
    path = ROOT / "pgqrs" / f"{name}.py"
    source = path if path.exists() else path.with_suffix("") / "__init__.py"
    doc = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(doc.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")
