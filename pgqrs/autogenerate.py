"""pgqrs's plugin for Alembic (1.18 and newer), which a host switches on by its name in env.py.

Alembic loads this module while it is itself still being imported, in every program that uses it:
nothing is imported before it is needed, and nothing happens where the plugin is not switched on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from alembic.operations.ops import UpgradeOps
    from alembic.runtime.plugins import Plugin
    from alembic.util import PriorityDispatchResult

__all__ = ["setup"]


def setup(plugin: Plugin) -> None:
    """Register what Alembic asks before it compares anything."""
    from alembic.util import DispatchPriority

    plugin.add_autogenerate_comparator(
        _compare, "autogenerate", "pgqrs", qualifier="postgresql", priority=DispatchPriority.FIRST
    )


def _compare(context: AutogenContext, upgrade_ops: UpgradeOps) -> PriorityDispatchResult:
    from alembic.util import PriorityDispatchResult

    from pgqrs.migrations.generating import add_lines, pass_over

    pass_over(context)
    add_lines(context, upgrade_ops)
    return PriorityDispatchResult.CONTINUE


class _Itself(ModuleType):
    """A module that is also a collection of one, as which Alembic 1.18 and 1.19 take it."""

    def __iter__(self) -> Iterator[ModuleType]:
        return iter((self,))


sys.modules[__name__].__class__ = _Itself
