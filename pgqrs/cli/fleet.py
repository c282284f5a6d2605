"""Several worker processes: started, watched, replaced, stopped, and summed up.

Processes are started anew and never forked, so that nothing of one is in another. Each has a socket
to the parent: it goes down when the parent is gone, however that ended.
"""

from __future__ import annotations

import logging
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Final, Self

from pgqrs.cli.job import Job
from pgqrs.cli.member import AT_ONCE, ORDERLY, SIGNALS
from pgqrs.patience import backoff

if TYPE_CHECKING:
    from pgqrs.runner import Report

__all__ = ["Fleet"]

_log: Final = logging.getLogger("pgqrs.run")
_LOOK_EVERY: Final = 0.5  # seconds: the end of a process may come without a word
_LOOK_OFTEN: Final = 0.02  # seconds: it has just closed its socket
_TO_CLOSE: Final = 10.0  # seconds that a process has beyond the time for its handlers
_LONG_LIVED: Final = 60.0  # seconds after which the next death is a first one again


@dataclass(slots=True)
class _Berth:
    """The place of one process: whoever is in it, and how long to wait before the next."""

    process: subprocess.Popen[bytes] | None = None
    line: Connection | None = None
    report: Report | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pauses: Iterator[float] = field(default_factory=lambda: backoff(0.5, 30.0))


class Fleet:
    """Worker processes that all do one job; leaving the block leaves none behind."""

    def __init__(self, job: Job, shutdown_timeout: float) -> None:
        self._job = job
        self._berths = [_Berth() for _ in range(job.processes)]
        self._shutdown_timeout = shutdown_timeout
        self._past: list[Report] = []
        self._signals = 0
        self._told = 0
        self._kill_at = 0.0
        self.all_well = True
        self.failure: tuple[int, str] | None = None
        """The exit status and the sentence of a process that said why it cannot work."""

    def progress(self) -> tuple[int, Report]:
        """Give how many processes there are, and what all that ever were came to."""
        from pgqrs.runner import Report

        total = Report()
        now = [berth.report for berth in self._berths]
        for each in (report for report in [*self._past, *now] if report is not None):
            total.completed += each.completed
            total.failed += each.failed
            total.dead += each.dead
            total.returned += each.returned
            total.lost += each.lost
            total.still_running += each.still_running
        return sum(berth.process is not None for berth in self._berths), total

    def work(self) -> Report:
        """Keep the processes at work until a signal stops them; gives their sum."""
        with _waking_on_signals(self._signalled) as bell:
            while not self._told or any(berth.process for berth in self._berths):
                self._pass_on_signals()
                for berth in self._berths:
                    if berth.process is None and not self._told:
                        self._start(berth)
                self._hear(bell)
                for berth in self._berths:
                    self._look_after(berth)
        return self.progress()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        left = [berth for berth in self._berths if berth.process]  # after an error of our own only
        for berth in left:
            if berth.line is not None:
                berth.line.close()
        deadline = time.monotonic() + self._shutdown_timeout + _TO_CLOSE
        for berth in left:
            if berth.process is not None:
                with suppress(subprocess.TimeoutExpired):
                    berth.process.wait(max(deadline - time.monotonic(), 0))
                berth.process.kill()
                berth.process.wait()

    def _signalled(self) -> None:
        self._signals += 1

    def _pass_on_signals(self) -> None:
        """Say to all what was asked for since, once each."""
        asked = min(self._signals, 2)
        if self.failure is not None:
            asked = max(asked, 1)
        if asked > self._told:
            self._told = asked
            patience = self._shutdown_timeout if asked == 1 else 0
            how = f"handlers have {patience:g} seconds to end" if patience else "at once"
            _log.info("stopping: %s", how)
            self._kill_at = time.monotonic() + patience + _TO_CLOSE
            for berth in self._berths:
                if berth.line is not None:
                    with suppress(OSError):  # it has just ended
                        berth.line.send(ORDERLY if asked == 1 else AT_ONCE)
        if self._told and time.monotonic() >= self._kill_at:
            self._kill_at = math.inf
            for berth in self._berths:
                if berth.process is not None:
                    _log.warning("process %d did not end, and is killed", berth.process.pid)
                    berth.process.kill()

    def _start(self, berth: _Berth) -> None:
        if time.monotonic() < berth.start_at:
            return
        ours, theirs = socket.socketpair()
        with theirs, _blocked():
            berth.process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-P", "-m", "pgqrs.cli.member", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        berth.line = Connection(ours.detach())
        berth.started_at = time.monotonic()
        with suppress(OSError):  # that it ended is seen soon
            berth.line.send(self._job)

    def _hear(self, bell: socket.socket) -> None:
        """Wait for news of the processes or a signal, and take it in."""
        lines: dict[Any, _Berth] = {each.line: each for each in self._berths if each.line}
        ending = any(each.process and not each.line for each in self._berths)
        ready = wait([bell, *lines], _LOOK_OFTEN if ending else _LOOK_EVERY)
        for one in ready:
            if one is bell:
                bell.recv(4096)
            else:
                self._take(lines[one])

    def _take(self, berth: _Berth) -> None:
        """Take in what a process said, and see whether it can say more."""
        if berth.line is None:
            return
        try:
            while berth.line.poll():
                word = berth.line.recv()
                if isinstance(word, tuple):
                    self.failure = self.failure or word
                else:
                    berth.report = word
        except (EOFError, OSError):
            berth.line.close()
            berth.line = None

    def _look_after(self, berth: _Berth) -> None:
        """See whether a process ended, and have another take its place if it should not have."""
        if berth.process is None:
            return
        status = berth.process.poll()
        if status is None:
            return
        self._take(berth)
        if berth.line is not None:
            berth.line.close()
        pid, berth.process, berth.line = berth.process.pid, None, None
        self._settle_up(berth, status)
        if self._told or self.failure is not None:
            return
        if time.monotonic() - berth.started_at >= _LONG_LIVED:
            berth.pauses = backoff(0.5, 30.0)
        pause = next(berth.pauses)
        berth.start_at = time.monotonic() + pause
        sentence = "process %d ended with status %d; another takes its place in %.1f s"
        _log.warning(sentence, pid, status, pause)

    def _settle_up(self, berth: _Berth, status: int) -> None:
        """Keep the counters of a process that ended; what it still ran counts at the end only."""
        if berth.report is not None:
            if not self._told or status < 0:
                berth.report.still_running = []
            self._past.append(berth.report)
            berth.report = None
        if self._told and status != 0:
            self.all_well = False


@contextmanager
def _waking_on_signals(signalled: Callable[[], None]) -> Iterator[socket.socket]:
    """Have SIGTERM and SIGINT counted, and a socket that can be read when one came."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    before = {number: signal.signal(number, lambda *_: signalled()) for number in SIGNALS}
    descriptor = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()


@contextmanager
def _blocked() -> Iterator[None]:
    """Hold signals back, so that a process that is started has none before it can heed it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
