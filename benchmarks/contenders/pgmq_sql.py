"""pgmq's SQL functions alone, prepared, sent by psycopg on one held connection.

One round trip a call is the best that pgmq can have; a Python application has it by its client.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import psycopg
from pgmq import install_pgmq_from_sql  # type: ignore[import-not-found,unused-ignore]

from benchmarks.contenders.answering import BODY, answer
from benchmarks.contenders.pgmq import Answers

SEND = "SELECT * FROM pgmq.send('bench', %s::jsonb)"
SEND_BATCH = "SELECT * FROM pgmq.send_batch('bench', %s::text[]::jsonb[], %s::int)"
READ = "SELECT msg_id, message FROM pgmq.read('bench', 30, %s)"
ARCHIVE = "SELECT pgmq.archive('bench', %s::bigint)"
ARCHIVE_BATCH = "SELECT * FROM pgmq.archive('bench', %s::bigint[])"


class Functions:
    """One connection in autocommit, statements prepared by the server."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True, prepare_threshold=1)
        if self.rows("SELECT to_regnamespace('pgmq')") == [(None,)]:
            install_pgmq_from_sql(dsn=dsn)
        self.rows("SELECT pgmq.create('bench')")

    def rows(self, statement: str, *values: Any) -> list[Any]:
        return self.connection.execute(statement.encode(), values).fetchall()

    def send(self) -> None:
        self.rows(SEND, json.dumps(BODY))

    def send_batch(self, n: int, delay: int) -> int:
        return len(self.rows(SEND_BATCH, [json.dumps(BODY) for _ in range(n)], delay))

    def read(self, n: int) -> list[int]:
        return [mid for mid, _message in self.rows(READ, n)]

    def archive(self, mid: int) -> bool:
        return self.rows(ARCHIVE, mid) == [(True,)]

    def archive_batch(self, mids: list[int]) -> int:
        return len(self.rows(ARCHIVE_BATCH, mids))

    def truncate(self, *tables: str) -> None:
        self.connection.execute(f"TRUNCATE {', '.join(tables)}".encode())

    def close(self) -> None:
        self.connection.close()


def main(dsn: str) -> None:
    """Answer with pgmq's functions."""
    functions = Functions(dsn)
    answer(Answers(functions).figures, functions.close)


if __name__ == "__main__":
    main(sys.argv[1])
