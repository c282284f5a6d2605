"""The consumer processes of the demo: hired, held still for a look, killed, dismissed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final

from pgqrs.cli.signals import ignore_interrupts
from pgqrs.closing import Closing
from pgqrs.errors import PgqrsError

__all__ = ["Crew", "DemoFailedError"]

_PATIENCE_SECONDS: Final = 10
_SETTLING_SECONDS: Final = 0.05


class DemoFailedError(PgqrsError):
    """The demo cannot go on."""


class Crew(Closing):
    """Processes that all work on one assignment; leaving the block ends them all.

    Each has a process group of its own, so that Ctrl-C reaches the demo alone, and a pipe whose
    end it takes for its dismissal, so that none outlives the demo however that ends.
    """

    def __init__(self, assignment: Mapping[str, Any]) -> None:
        self._orders = json.dumps(assignment).encode() + b"\n"
        self._working: dict[int, subprocess.Popen[bytes]] = {}
        self._complaints: dict[int, IO[bytes]] = {}

    def hire(self, count: int) -> None:
        """Start consumers."""
        for _ in range(count):
            complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `dismiss`
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pgqrs.cli.demo.consumer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                process_group=0,
            )
            self._working[process.pid] = process
            self._complaints[process.pid] = complaints
            self._instruct(process)

    def check(self) -> None:
        """Raise DemoFailedError if a consumer ended by itself."""
        for pid, process in self._working.items():
            status = process.poll()
            if status is not None:
                self._complaints[pid].seek(0)
                said = self._complaints[pid].read().decode(errors="replace").splitlines()
                reason = f": {said[-1]}" if said else ""
                raise DemoFailedError(
                    f"consumer {pid} ended by itself with status {status}{reason}"
                )

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Hold all consumers still for the block, after what they have sent was answered."""
        self._signal(signal.SIGSTOP)
        try:
            time.sleep(_SETTLING_SECONDS)
            yield
        finally:
            self._signal(signal.SIGCONT)

    def kill(self, pid: int) -> None:
        """Kill a consumer as the kernel does when memory is short: with SIGKILL."""
        process = self._working.pop(pid)
        process.kill()
        process.wait()
        self._close(process)

    def dismiss(self) -> None:
        """Let the consumers give back what they hold and end; kill those that do not."""
        for process in self._working.values():
            self._close(process)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for process in self._working.values():
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._working.clear()
        for complaints in self._complaints.values():
            complaints.close()

    def close(self) -> None:
        """Dismiss them, whatever signals come meanwhile."""
        ignore_interrupts()
        self.dismiss()

    def _instruct(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # `check` says why it ended
                process.stdin.write(self._orders)
                process.stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._working.values():
            process.send_signal(number)

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
