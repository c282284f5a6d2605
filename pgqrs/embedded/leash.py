"""The Python end of the watchdog: start it, give it commands, read its reports, let go."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
import weakref
from io import FileIO
from pathlib import Path

from pgqrs.embedded import watchdog
from pgqrs.errors import EmbeddedPostgresError

START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
LOG_LINES = 5


class Leash:
    """A running watchdog, bound to the process that started it."""

    def __init__(
        self, process: subprocess.Popen[bytes], commands: FileIO, reports: FileIO, log: Path
    ) -> None:
        self._process = process
        self._commands = commands
        self._reports = reports
        self._log = log
        self._owner = os.getpid()
        self._starts = 1
        self._unread = b""

    @classmethod
    def fasten(cls, assignment: watchdog.Assignment, lock: int) -> Leash:
        """Start a watchdog, which starts the server; it and the server keep `lock` open."""
        commands_read, commands_write = os.pipe()
        reports_read, reports_write = os.pipe()
        commands, reports = FileIO(commands_write, "w"), FileIO(reports_read, "r")
        try:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", watchdog.__file__, *assignment.to_argv()],
                stdin=commands_read,
                stdout=reports_write,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_environment(),
                pass_fds=[lock],
                # In the session of a terminal, Ctrl-C would reach the server before us.
                start_new_session=True,
            )
        except BaseException:
            commands.close()
            reports.close()
            raise
        finally:
            os.close(commands_read)
            os.close(reports_write)
        leash = cls(process, commands, reports, Path(assignment.home, "server.log"))
        _fastened.add(leash)
        return leash

    @property
    def is_mine(self) -> bool:
        """Whether this process started the watchdog, rather than being forked from that one."""
        return self._owner == os.getpid()

    def command(self, word: str) -> None:
        """Tell the watchdog to stop the server the way `word` says, and to start it again."""
        self._starts += 1
        try:
            self._commands.write(f"{word}\n".encode())
        except BrokenPipeError:
            raise EmbeddedPostgresError(_WATCHDOG_GONE) from None

    def await_ready(self) -> int:
        """Wait until the server accepts connections; return its pid.

        Raises EmbeddedPostgresError with the last lines of its log when it does not start.
        """
        deadline = time.monotonic() + START_TIMEOUT
        try:
            outcome, detail = self._next_report(deadline)
        except TimeoutError:
            raise self._failure(f"was not ready after {START_TIMEOUT:.0f} seconds") from None
        if outcome != "ready":
            raise self._failure(f"did not start: {detail}")
        return int(detail)

    def await_exit(self) -> EmbeddedPostgresError:
        """Wait until the server ends by itself; return what there is to say of it."""
        _, status = self._next_report(None)
        return self._failure(f"ended by itself with status {status}")

    def let_go(self) -> bool:
        """End the server and wait for that; False when the watchdog itself was killed before."""
        self._commands.close()
        try:
            return self._process.wait(STOP_TIMEOUT) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait() == 0
        finally:
            self._reports.close()

    def forget(self) -> None:
        """In a forked child: close our copy of the pipe, for an open one keeps the server alive."""
        self._commands.close()
        self._reports.close()
        # The watchdog is not our child, so a destructor that waits for it would complain.
        self._process.returncode = 0

    def _next_report(self, deadline: float | None) -> tuple[str, str]:
        """Give the next report on the latest start: its second word and the rest."""
        while True:
            count, outcome, detail = self._next_line(deadline).split(maxsplit=2)
            if int(count) == self._starts:
                return outcome, detail

    def _next_line(self, deadline: float | None) -> str:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reports, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                remaining = None if deadline is None else max(deadline - time.monotonic(), 0)
                if not selector.select(remaining):
                    raise TimeoutError
                news = self._reports.read(512)
                if not news:
                    raise EmbeddedPostgresError(_WATCHDOG_GONE)
                self._unread += news
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def _failure(self, what: str) -> EmbeddedPostgresError:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        quoted = "".join(f"\n  {line}" for line in [line for line in lines if line][-LOG_LINES:])
        tail = f"; its log ends with:{quoted}" if quoted else ""
        return EmbeddedPostgresError(f"the embedded server {what}{tail}")


_WATCHDOG_GONE = "the process that watches over the embedded server has ended: stop and start again"
_fastened: weakref.WeakSet[Leash] = weakref.WeakSet()


def _forget_all() -> None:
    for leash in list(_fastened):
        leash.forget()
    _fastened.clear()


os.register_at_fork(after_in_child=_forget_all)


def _environment() -> dict[str, str]:
    """Give the environment without what would lead PostgreSQL's programs astray."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG"))
    }
    return {**kept, "LC_ALL": "C"}
