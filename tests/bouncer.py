"""A PgBouncer of the test's own, before the server of a URL."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import URL
from waiting import until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

SETTINGS = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
max_client_conn = 200
ignore_startup_parameters = {ignored}
logfile = {folder}/log
"""


@contextmanager
def bouncer(url: URL, mode: str = "transaction", ignored: str = "", size: int = 2) -> Iterator[str]:
    """Give the DSN that leads through it; it forgives the startup parameters named.

    It has `size` connections to the server, for all.
    """
    assert PROGRAM is not None
    folder = Path(tempfile.mkdtemp(prefix="pgb"))
    host, port = str(url.query["host"]), url.query.get("port", "5432")
    settings = folder / "pgbouncer.ini"
    values = {"host": host, "port": port, "folder": folder, "mode": mode, "size": size}
    values["ignored"] = ignored
    settings.write_text(SETTINGS.format(**values))
    owner = None
    if os.getuid() == 0:  # which it refuses to run as; the server's socket is its owner's alone
        owner = pwd.getpwuid(Path(host).stat().st_uid).pw_name
        shutil.chown(folder, owner)
    process = subprocess.Popen([PROGRAM, str(settings)], user=owner, stderr=subprocess.DEVNULL)
    dsn = f"postgresql://postgres@/{url.database}?host={folder}&port=6432"
    try:
        until(lambda: _answers(dsn))
        yield dsn
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # somebody is still connected
            process.kill()
            process.wait(5)
        shutil.rmtree(folder)


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
