"""What `pgqrs alembic init` shows: the change of env.py, and what to do next."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from pgqrs import migrations
from pgqrs.migrations.environment import env_file, has_plugins, with_pgqrs
from pgqrs.migrations.revision import downgrade_line

__all__ = ["Wiring", "wire"]


@dataclass(frozen=True, slots=True)
class Wiring:
    """An env.py as it should be, and the steps that remain."""

    env: Path
    text: str
    change: str
    steps: tuple[str, ...]

    def told(self, *, written: bool) -> str:
        """Say it all, for people."""
        if not self.change:
            first = f"{self.env} needs no change"
        elif written:
            first = f"{self.env} is written:\n\n{self.change}"
        else:
            first = f"{self.env} needs this change (--write makes it):\n\n{self.change}"
        return "\n".join((first.rstrip("\n"), "\nthen:", *(f"  {step}" for step in self.steps)))


def wire(ini: Path | None, schema: str, *, filters: bool) -> Wiring:
    """Find the environment of this folder, and say what it needs. Raises SchemaError."""
    here = Path.cwd()
    env = env_file(here, ini)
    plugins = has_plugins() and not filters
    text = env.read_bytes().decode()
    wanted = with_pgqrs(text, schema, plugins=plugins)
    name = str(env.relative_to(here) if env.is_relative_to(here) else env)
    lines = difflib.unified_diff(
        text.splitlines(keepends=True), wanted.splitlines(keepends=True), name, name
    )
    return Wiring(env, wanted, "".join(lines), _by_plugin() if plugins else _by_hand(schema))


def _by_plugin() -> tuple[str, ...]:
    return ('alembic revision --autogenerate -m "Add pgqrs"', "alembic upgrade head")


def _by_hand(schema: str) -> tuple[str, ...]:
    to = migrations.head()
    return (
        'alembic revision -m "Add pgqrs", and in it:',
        "  from pgqrs import migrations",
        f"  in upgrade():   {migrations.upgrade_line(None, to, schema)}",
        f"  in downgrade(): {downgrade_line(to, None, schema)}",
        "alembic upgrade head",
    )
