"""One of several worker processes: `python -m pgqrs.cli.member`, started by `fleet`.

It gets its job through a socket, tells there each second how far it came, and is told there to
stop. A signal stops it in good order, and however many come, only a word from the parent ends it at
once: a terminal signals parent and children alike. When the parent is gone it stops as well.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from pgqrs.cli.failures import UsageError, status_of
from pgqrs.cli.job import Job
from pgqrs.errors import ConfigError, NotFoundError, PgqrsError, SchemaError

if TYPE_CHECKING:
    from pgqrs.runner import Report
    from pgqrs.several import Runner

__all__ = ["AT_ONCE", "ORDERLY", "SIGNALS", "main", "tell"]

ORDERLY: Final = "stop"
AT_ONCE: Final = "stop at once"
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_ENDED: Final = "ended"
_TELL_EVERY: Final = 1.0  # seconds


class _Member:
    """Runs a runner and hears the news: stop, stop at once, and that it ended.

    Only the main thread acts on them, so that signals, the parent and the end cannot interleave;
    of the queues of Python, this kind may be put into by a signal handler.
    """

    def __init__(self, parent: Connection, news: SimpleQueue[str]) -> None:
        self._parent = parent
        self._news = news
        self._result: Any = None

    def work(self, runner: Runner) -> Report:
        """Run until told to stop, and tell the parent each second. Raises what `run` raises."""
        for target, values in ((self._run, (runner,)), (self._listen, ())):
            threading.Thread(target=target, args=values, daemon=True).start()
        stopped = False
        tell_at = time.monotonic() + _TELL_EVERY
        while (word := self._next(tell_at)) != _ENDED:
            if time.monotonic() >= tell_at:
                tell(self._parent, runner.report)
                tell_at = time.monotonic() + _TELL_EVERY
            if word and not stopped:
                stopped = True
                runner.stop()
            if word == AT_ONCE:
                runner.stop()
        if isinstance(self._result, BaseException):
            raise self._result
        report: Report = self._result
        return report

    def _next(self, until: float) -> str:
        try:
            return self._news.get(timeout=max(until - time.monotonic(), 0.001))
        except Empty:
            return ""

    def _run(self, runner: Runner) -> None:
        try:
            self._result = runner.run()
        except BaseException as error:  # noqa: BLE001 - raised again by the main thread
            self._result = error
        self._news.put(_ENDED)

    def _listen(self) -> None:
        try:
            while True:
                self._news.put(self._parent.recv())
        except (EOFError, OSError):  # the parent is gone
            self._news.put(ORDERLY)


def tell(parent: Connection, word: Report | tuple[int, str]) -> None:
    """Send something to the parent, if it is still there."""
    with suppress(OSError):
        parent.send(word)


def main(descriptor: int) -> int:
    """Work until told to stop; gives the exit status, which is 0 if nothing still runs."""
    news: SimpleQueue[str] = SimpleQueue()
    for number in SIGNALS:
        signal.signal(number, lambda *_: news.put(ORDERLY))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the parent blocked them before we began
    parent = Connection(descriptor)
    try:
        job: Job = parent.recv()
    except EOFError:
        return 0
    try:
        runner = job.runner()
    except Exception as error:  # noqa: BLE001 - whatever the module of the handler raises
        return _refuse(parent, error)
    try:
        with runner:
            report = _Member(parent, news).work(runner)
            tell(parent, report)
    except (ConfigError, SchemaError, NotFoundError) as error:
        return _refuse(parent, error)
    except (PgqrsError, ValueError):  # another may fare better
        traceback.print_exc()
        return 1
    return 1 if report.still_running else 0


def _refuse(parent: Connection, error: Exception) -> int:
    """Tell the parent why there is no use in another process, with its exit status."""
    if isinstance(error, PgqrsError | ValueError | UsageError):
        tell(parent, (2 if isinstance(error, UsageError) else status_of(error), str(error)))
    else:
        traceback.print_exc()
        tell(parent, (1, f"the handler cannot be imported: {type(error).__name__}: {error}"))
    return 1


if __name__ == "__main__":
    _status = main(int(sys.argv[1]))
    sys.stdout.flush()
    if _status:
        os._exit(_status)  # threads of handlers cannot be ended otherwise
