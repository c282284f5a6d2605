"""The work of the demo: find Python's own source files, and parse one for real."""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Final

__all__ = ["library_root", "measure", "source_files"]

_NOT_LIBRARY: Final = ("site-packages", "dist-packages", "__pycache__")
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def library_root() -> Path:
    """Give the directory of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files() -> list[str]:
    """List the standard library's source files, tests included, by path."""
    found: list[str] = []
    for folder, subfolders, names in os.walk(library_root()):
        subfolders[:] = [name for name in subfolders if name not in _NOT_LIBRARY]
        found += [os.path.join(folder, name) for name in names if name.endswith(".py")]  # noqa: PTH118 - a third of the time
    return sorted(found)


def measure(path: str) -> dict[str, Any]:
    """Count a file's lines, functions and classes; for one that is no Python, give the error."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        return {"error": f"{type(error).__name__}: {error.strerror}"}
    lines = len(text.splitlines())
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(text, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"lines": lines, "error": ascii(f"{type(error).__name__}: {error}")[1:-1]}
    kinds = Counter(map(type, ast.walk(tree)))
    functions = sum(kinds[kind] for kind in _FUNCTIONS)
    return {"lines": lines, "functions": functions, "classes": kinds[ast.ClassDef]}
