"""The schema through Alembic, whose scripts own it: by `pgqrs install`, or by a host's revisions.

Not for queues and messages: it creates and drops tables and nothing else. The functions for env.py
and for revisions of an application are `upgrade`, `downgrade`, `include_name` and `include_object`.
"""

from __future__ import annotations

from pgqrs.migrations.comparing import comparison
from pgqrs.migrations.filters import include_name, include_object
from pgqrs.migrations.ground import lock, make_schema
from pgqrs.migrations.installing import install, uninstall
from pgqrs.migrations.record import (
    VERSION_TABLE,
    Door,
    Installed,
    adopt,
    check_door,
    installed,
    installed_revision,
)
from pgqrs.migrations.revision import downgrade, upgrade, upgrade_line
from pgqrs.migrations.scripts import head, history, is_newer, script_location

__all__ = [
    "VERSION_TABLE",
    "Door",
    "Installed",
    "adopt",
    "check_door",
    "comparison",
    "downgrade",
    "head",
    "history",
    "include_name",
    "include_object",
    "install",
    "installed",
    "installed_revision",
    "is_newer",
    "lock",
    "make_schema",
    "script_location",
    "uninstall",
    "upgrade",
    "upgrade_line",
]
