"""The project as a whole: what it says of itself, its size, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import pgqrs
import pgqrs.aio
import pgqrs.aio.boss
import pgqrs.boss
import pgqrs.embedded
import pgqrs.testing
import pgqrs.testing.aio

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pgqrs"
MODULES = sorted(PACKAGE.rglob("*.py"))
SKIPPED = {"dist", "build", "site", "__pycache__", "LICENSE-APACHE"}
PUBLIC = [
    *(("pgqrs", name) for name in pgqrs.__all__ if name != "__version__"),
    *(("pgqrs.aio", name) for name in pgqrs.aio.__all__),
    *(("pgqrs.boss", name) for name in pgqrs.boss.__all__ if name != "QueuePolicy"),
    *(("pgqrs.aio.boss", name) for name in pgqrs.aio.boss.__all__),
    *(("pgqrs.embedded", name) for name in pgqrs.embedded.__all__),
    *(("pgqrs.testing", name) for name in pgqrs.testing.__all__),
    *(("pgqrs.testing.aio", name) for name in pgqrs.testing.aio.__all__),
]

UNWANTED = {
    "a path of one machine": re.compile(
        r"(?<![\w.~$}/>)-])/(?:root|home|Users|mnt|opt|wor[k]|tmp/[a-z])(?:/|\b)(?![-\w]*\.md)"
    ),
    "an address of a registry or mirror": re.compile(
        r"https?://(?:[\w.-]*pypi|[\w.-]*npm|deb|files\.pythonhosted)[\w.-]*\.\w+"
    ),
    "a number of an issue": re.compile(r"\b[Ii]ssues? #?\d+|(?<![\w&/(])#\d+\b"),
    "work that was left": re.compile(r"\b(?:TO" + "DO|FIX" + "ME|X" + "XX)\b"),
    "a note to oneself": re.compile(
        r"\b[Ss]eeds? \d{3}\b|\b(?:DESIGN|STYLE|ENVIRONMENT|DATABASE)(?:\.md| section| \d)"
    ),
}


def files() -> Iterator[Path]:
    """Every text file that belongs to the project, or would if it were committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else sources()
    for path in sorted({ROOT / name for name in names}):
        if path.is_file() and not SKIPPED & set(path.relative_to(ROOT).parts):
            yield path


def sources() -> Iterator[str]:
    """The same where there is no git: everything but what tools leave behind."""
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if not parts[0].startswith(".") or parts[0] in {".ci", ".gitignore"}:
            yield str(path.relative_to(ROOT))


@pytest.mark.parametrize("what", UNWANTED)
def test_the_project_speaks_of_itself_alone(what: str) -> None:
    """No file names a machine, a registry, an issue or unfinished work."""
    found = []
    for path in files():
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if UNWANTED[what].search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, f"{what}:\n" + "\n".join(found)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_is_small(path: Path) -> None:
    """A module opens with a docstring, has at most 350 lines, and no function above 30."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "it opens without a docstring"
    assert len(text.splitlines()) <= 350
    long = [
        f"{node.name} has {lines}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > 30
    ]
    assert not long


def test_what_is_listed_as_public_is_there() -> None:
    """`__all__`, the lazy table and what type checkers see are the same names."""
    seen = set()
    for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pgqrs."):
            for name in node.names:
                seen.add(name.asname or name.name)
    assert seen == set(pgqrs.__all__)
    for name in pgqrs.__all__:
        assert getattr(pgqrs, name) is not None
    assert sorted(dir(pgqrs)) == sorted(pgqrs.__all__)
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = pgqrs.nothing_like_this  # type: ignore[attr-defined]


def test_every_name_of_a_module_is_there() -> None:
    """What a module lists in `__all__`, it has."""
    for path in MODULES:
        if path.name == "__main__.py":
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.{name}"


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_a_public_name_has_a_docstring_and_stands_in_the_docs(module: str, name: str) -> None:
    """Public is what is listed: documented in the code, with all its methods, and in docs/."""
    value: Any = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        assert value.__doc__, f"{name} has no docstring"
        for member, attribute in inspect.getmembers(value, inspect.isroutine):
            ours = (getattr(attribute, "__module__", None) or "").startswith("pgqrs")
            if ours and not member.startswith("_"):
                assert inspect.getdoc(attribute), f"{name}.{member} has no docstring"
    elif not inspect.isfunction(value):
        assert name in documented_assignments(), f"{name} has no docstring"
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    stands = rf"^::: {module}\.{name}$|^\| `{module}\.{name}` \|"
    assert re.search(stands, pages, re.MULTILINE), f"{module}.{name} is not in docs/reference"


def documented_assignments() -> set[str]:
    """Names that a module assigns at its top, with a string after."""
    names = set()
    for path in MODULES:
        for one, after in pairwise(ast.parse(path.read_text(encoding="utf-8")).body):
            documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if documented and isinstance(one, ast.Assign | ast.AnnAssign):
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_contributing_lists_the_modules() -> None:
    """CONTRIBUTING's table of the package names every module and package, and no other."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^    (\w+(?:/|\.py)) ", text, re.MULTILINE))
    there = {path.name for path in PACKAGE.glob("*.py")} - {"_version.py", "__main__.py"}
    there |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert listed == there


def test_decisions_are_short_and_listed() -> None:
    """A decision record has at most 60 lines and stands in the list and the navigation."""
    folder = ROOT / "docs" / "adr"
    index = (folder / "index.md").read_text(encoding="utf-8")
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for path in sorted(folder.glob("0*.md")):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60
        assert text.startswith(f"# {path.name[:4]}: ")
        assert f"({path.name})" in index
        assert f"adr/{path.name}" in navigation
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert {"Context", "Decision", "Consequences", "Rejected"} <= set(headings)
        assert set(headings) <= {"Context", "Decision", "Consequences", "Rejected", "Measured"}
