"""The small process that owns the server: it starts PostgreSQL, and stops it when Python dies.

It is the server's parent and holds the read end of a pipe whose only write end is in the Python
process. However that process dies, the pipe ends; the watchdog then stops the server and removes
the temporary directories. It imports a few standard modules and nothing of pgqrs, so that it can
be run by its path in an isolated interpreter and be ready in some 15 ms.

Commands are lines on standard input: `fast` and `immediate` stop the server that way and start it
again; the end of the input ends everything. Each start, counted from 1, is reported by one line on
standard output, `COUNT ready PID` or `COUNT failed REASON`; a server that ends by itself later, by
`COUNT exited CODE`.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import NamedTuple, NoReturn

SHUTDOWN = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
PATIENCE = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
"""What a server that does not stop gets next, and the seconds each has to work."""


class Assignment(NamedTuple):
    """What one watchdog looks after; it travels as the command line.

    `home` holds `data`, `unfinished` and `server.log`; `uid` is -1 where the user stays the same.
    """

    home: str
    uid: int
    gid: int
    remove: tuple[str, ...]
    initdb: tuple[str, ...]
    postgres: tuple[str, ...]

    def to_argv(self) -> list[str]:
        argv = [self.home, str(self.uid), str(self.gid)]
        for words in (self.remove, self.initdb, self.postgres):
            argv += [str(len(words)), *words]
        return argv

    @classmethod
    def from_argv(cls, argv: list[str]) -> Assignment:
        home, uid, gid, *rest = argv
        groups: list[tuple[str, ...]] = []
        while rest:
            size = int(rest[0])
            groups.append(tuple(rest[1 : size + 1]))
            rest = rest[size + 1 :]
        remove, initdb, postgres = groups
        return cls(home, int(uid), int(gid), remove, initdb, postgres)


class Watch:
    """The server of one assignment, from its first start to its end."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._data = os.path.join(assignment.home, "data")
        self._unfinished = os.path.join(assignment.home, "unfinished")
        self._lock_file = os.path.join(self._data, "postmaster.pid")
        self._leftover: tuple[int, int] | None = None
        self._pid: int | None = None
        self._count = 0
        self.starting = False

    def start(self) -> None:
        """Start the server, or initdb where there is no data yet."""
        if self._count == 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._assignment.home, "server.log"))
        self._count += 1
        self.starting = True
        if os.path.exists(self._data):
            self._run(self._assignment.postgres)
        else:
            remove_tree(self._unfinished)
            self._run(self._assignment.initdb)

    def look(self) -> None:
        """Notice what became of the child, and report it."""
        code = self._reap()
        if code == 0 and self.starting and not os.path.exists(self._data):
            # Only a whole cluster gets the name `data`: initdb may be killed at any moment.
            os.rename(self._unfinished, self._data)
            self._run(self._assignment.postgres)
        elif code is not None:
            self._report(f"failed status {code}" if self.starting else f"exited {code}")
            self.starting = False
        elif self.starting and self._is_ready():
            self._report(f"ready {self._pid}")
            self.starting = False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the child and wait for it; return at once where there is none."""
        if self._pid is not None:
            stop_process(self._pid, how)
            self._pid = None

    def end(self) -> None:
        """Stop the server and remove what was temporary."""
        self.stop()
        remove_tree(self._unfinished)
        for directory in self._assignment.remove:
            remove_tree(directory)

    def _run(self, command: tuple[str, ...]) -> None:
        self._leftover = identify(self._lock_file)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            become(command, self._assignment, write)
        os.close(write)
        with open(read, "rb") as pipe:
            problem = pipe.read().decode(errors="replace")
        self._pid = pid
        if problem:
            self._report(f"failed {problem}")
            self.starting = False
            self.stop()

    def _reap(self) -> int | None:
        if self._pid is None:
            return None
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid == 0:
            return None
        self._pid = None
        return os.waitstatus_to_exitcode(status)

    def _is_ready(self) -> bool:
        # A crash leaves the file, and in a container the next server often has the same pid.
        if identify(self._lock_file) in (None, self._leftover):
            return False
        try:
            with open(self._lock_file) as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self._pid) and lines[7].strip() == "ready"

    def _report(self, news: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(1, f"{self._count} {' '.join(news.split())}\n".encode())


def become(command: tuple[str, ...], assignment: Assignment, problems: int) -> NoReturn:
    """Turn this forked child into the command; write to `problems` if that cannot be done."""
    try:
        os.umask(0o077)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if assignment.uid != -1:
            os.setgroups([])
            os.setgid(assignment.gid)
            os.setuid(assignment.uid)
        # Opened as the server's user, so that a link in its directory leads root nowhere.
        log = os.path.join(assignment.home, "server.log")
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.execv(command[0], command)  # noqa: S606
    except BaseException as error:  # noqa: BLE001  (this copy ends here)
        os.write(problems, str(error).encode())
    finally:
        os._exit(127)


def stop_process(pid: int, how: signal.Signals = signal.SIGINT) -> None:
    """Stop a process, a child or not, with ever stronger signals from `how` on; wait for it."""
    strengths = [signum for signum, _ in PATIENCE]
    for signum, seconds in PATIENCE[strengths.index(how) :]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if is_gone(pid):
                return
            time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a child is reaped by the question."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
        # In a container, the first process often is no init and leaves orphans as zombies.
        with open(f"/proc/{pid}/stat") as file:
            return ") Z " in file.read()
    except (ProcessLookupError, PermissionError):
        return True
    except FileNotFoundError:
        return False


def identify(path: str) -> tuple[int, int] | None:
    """Tell a file from another that had its name before; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def remove_tree(directory: str) -> None:
    """Remove a directory, if it is there; try for a second, for others may still write in it."""
    if not os.path.lexists(directory):
        return
    import shutil

    deadline = time.monotonic() + 1
    while os.path.lexists(directory) and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.001)


def wake_on_signals() -> int:
    """Let SIGCHLD and SIGTERM be read from the descriptor returned, as bytes."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for signum in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)
    return read


def serve(watch: Watch) -> None:
    """Carry out the commands until the input ends, Python is gone, or SIGTERM comes."""
    parent = os.getppid()
    signals = wake_on_signals()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(signals, select.POLLIN)
    watch.start()
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(5 if watch.starting else 500)}
        # A process forked by C code may hold the pipe open: so look at the parent as well.
        if os.getppid() != parent or (signals in ready and signal.SIGTERM in os.read(signals, 512)):
            return
        if 0 in ready:
            words = os.read(0, 512).decode().split()
            if not words:
                return
            for word in words:
                watch.stop(SHUTDOWN[word])
                watch.start()
        watch.look()


def main() -> int:
    """Look after the server that the command line describes."""
    watch = Watch(Assignment.from_argv(sys.argv[1:]))
    try:
        serve(watch)
    finally:
        watch.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
