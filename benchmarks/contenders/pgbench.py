"""The floor without Python: the SQL of the psycopg floor, sent by PostgreSQL's own pgbench, in C.

The payload reaches the client, but nothing decodes it there. As pgbench cannot tell the time in
between, one INSERT in sixteen carries a notification instead of one each 10 ms.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.contenders.answering import BODY, FEW, MANY, Figure, Watch, answer
from benchmarks.contenders.psycopg_floor import ARCHIVE, ARCHIVE_AND_LEASE, INSERT, LEASE, Floor
from pgqrs.embedded.binaries import find_binaries

__all__ = ["program"]

PAYLOAD = "'" + json.dumps(BODY) + "'::jsonb"
FENCE = ("ARRAY[:id]", "ARRAY[:read_ct]")
FENCES = (":ids", ":counts")
LEASE_MANY = f"""
WITH leased AS ({LEASE})
SELECT array_agg(id ORDER BY priority DESC, id) AS ids,
  array_agg(read_ct ORDER BY priority DESC, id) AS counts,
  array_agg(payload ORDER BY priority DESC, id) AS payloads FROM leased
"""


def program() -> str | None:
    """Find pgbench, beside the server's programs or on the PATH."""
    beside = find_binaries().bindir / "pgbench"
    return str(beside) if beside.exists() else shutil.which("pgbench")


def filled(statement: str, *values: str, end: str = ";") -> str:
    """Put variables and literals of pgbench into a statement of the floor, as one command."""
    return (" ".join(statement.split()) % values) + end + "\n"


class Pgbench:
    """Runs scripts, one transaction after the other on one connection, prepared."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.floor = Floor(dsn)
        self.queue = str(self.floor.queue)

    def seconds(self, script: str, n: int, *options: str) -> float:
        """Run a script `n` times; gives how long it took once connected."""
        command = [str(program()), "-n", "-M", "prepared", "-c", "1", "-t", str(n), *options]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "script.sql"
            path.write_text(script)
            done = subprocess.run(
                [*command, "-f", str(path), self.dsn], capture_output=True, text=True, check=False
            )
        rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
        complete = f"actually processed: {n}/{n}" in done.stdout
        if done.returncode or rate is None or not complete:
            raise RuntimeError(done.stdout + done.stderr)
        return n / float(rate[1])

    def enqueue_one(self, watch: Watch, n: int) -> None:
        insert = filled(INSERT, self.queue, PAYLOAD, ":turn = 1")
        watch.seconds = self.seconds("\\set turn random(1, 16)\n" + insert, n)
        self.floor.connection.execute("DELETE FROM pgqrs.pgqrs_messages")

    def one_by_one(self, watch: Watch, n: int) -> None:
        self.floor.fill(n)
        lease = filled(LEASE, self.queue, "1", end=" \\gset")
        watch.seconds = self.seconds(lease + filled(ARCHIVE, *FENCE), n)
        self.check_empty()

    def fused(self, watch: Watch, n: int) -> None:
        """Begin with nothing to archive, and end with the last one leased."""
        self.floor.fill(n)
        turn = filled(ARCHIVE_AND_LEASE, *FENCE, self.queue, "1", end=" \\gset")
        watch.seconds = self.seconds(turn, n, "-D", "id=0", "-D", "read_ct=0")
        assert self.floor.connection.execute("DELETE FROM pgqrs.pgqrs_messages").rowcount == 1

    def drain(self, watch: Watch, n: int, size: int = FEW) -> None:
        self.floor.fill(n)
        lease = filled(LEASE_MANY, self.queue, str(size), end=" \\gset")
        watch.seconds = self.seconds(lease + filled(ARCHIVE, *FENCES), -(-n // size))
        self.check_empty()

    def drain_many(self, watch: Watch, n: int) -> None:
        self.drain(watch, n, MANY)

    def check_empty(self) -> None:
        assert not self.floor.lease(1), "pgbench left messages behind"


def main(dsn: str) -> None:
    """Answer with pgbench's own timing."""
    bench = Pgbench(dsn)
    figures: dict[str, Figure] = {
        "enqueue one": bench.enqueue_one,
        "lease and archive one": bench.one_by_one,
        "fused": bench.fused,
        "drain by 100": bench.drain,
        "drain by 500": bench.drain_many,
    }
    answer(figures, bench.floor.connection.close)


if __name__ == "__main__":
    main(sys.argv[1])
