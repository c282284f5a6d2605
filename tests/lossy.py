"""A proxy before the server's socket that loses a reply, or a request, or all, when told to.

Or is a bad network: slow, resetting connections, or breaking them in the middle of something.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL

READY: Final = b"Z\0\0\0\5"
"""How PostgreSQL says that it is done with a request; a letter about the transaction follows."""


class Lossy:
    """Forwards connections; what `lose` describes happens once for each time it was called.

    `latency` is in seconds and in each direction. `allowance` gives how many bytes a connection
    made from now on may forward before it breaks.
    """

    def __init__(self, listener: socket.socket, server: str) -> None:
        self._listener = listener
        self._server = server
        self._losses: list[tuple[bytes, bool, Callable[[], Any]]] = []
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._reset: set[socket.socket] = set()
        self._closing = threading.Event()
        self.latency = 0.0
        self.allowance: Callable[[], int] | None = None
        self.is_dark = False
        self.requests: list[bytes] = []

    def lose(
        self,
        request: bytes = b"",
        *,
        done: bool = True,
        then: Callable[[], Any] = lambda: None,
    ) -> None:
        """Break the connection that next sends something with `request` in it.

        The server has `done` it by then, or never heard of it. `then` runs before the client
        knows.
        """
        self._losses.append((request, done, then))

    def silence(self) -> int:
        """Forward nothing more on the connections there are, and do not close them; gives how many.

        Neither end is told: not even that the other one went away.
        """
        fresh = self._alive()
        self._silent.update(fresh)
        return len(fresh) // 2

    @contextlib.contextmanager
    def darkness(self) -> Iterator[int]:
        """Be silent, on connections that are made in the block too; gives how many there were."""
        self.is_dark = True
        try:
            yield self.silence()
        finally:
            self.is_dark = False

    def reset(self) -> int:
        """Answer with a reset on the connections there are; gives how many."""
        fresh = self._alive()
        self._reset.update(fresh)
        for one in fresh:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RD)  # which wakes its thread, and tells nobody
        return len(fresh) // 2

    def _alive(self) -> list[socket.socket]:
        return [one for one in self._open if one.fileno() != -1 and one not in self._silent]

    @property
    def is_spent(self) -> bool:
        """Whether all that was to be lost is lost."""
        return not self._losses

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._open += [client, server]
                if self.is_dark:
                    self._silent |= {client, server}
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def close(self) -> None:
        """Break everything."""
        self._closing.set()
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        watch = selectors.DefaultSelector()
        watch.register(client, selectors.EVENT_READ, server)
        watch.register(server, selectors.EVENT_READ, client)
        left = self.allowance() if self.allowance else None
        with client, server, watch, contextlib.suppress(OSError):
            while left != 0:
                ready = watch.select()
                if client in self._silent:
                    self._closing.wait()
                    return
                if client in self._reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                time.sleep(self.latency)
                for key, _ in ready:
                    data = key.fileobj.recv(2**20)[:left]  # type: ignore[union-attr]
                    if not data or (key.fileobj is client and self._loses(data, client, server)):
                        return
                    key.data.sendall(data)
                    left = None if left is None else left - len(data)

    def _loses(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        self.requests.append(data)
        if not self._losses or self._losses[0][0] not in data:
            return False
        _, done, then = self._losses.pop(0)
        if done:
            server.sendall(data)
            reply = b""
            while READY not in reply[-6:]:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:  # the rest of a long request
                    server.sendall(client.recv(2**20))
                if server in ready:
                    part = server.recv(2**20)
                    assert part, "the server is gone"
                    reply += part
        then()
        return True


@contextlib.contextmanager
def lossy(url: URL, *, address: str | None = None) -> Iterator[tuple[Lossy, URL]]:
    """Give a proxy before the server of `url` (a socket's directory), and the URL through it.

    With an address it is reached by TCP there.
    """
    name = f".s.PGSQL.{url.query.get('port', '5432')}"
    kind = socket.AF_INET if address else socket.AF_UNIX
    with tempfile.TemporaryDirectory() as directory, socket.socket(kind) as listener:
        listener.bind((address, 0) if address else str(Path(directory) / name))
        listener.listen()
        through = url.update_query_dict({"host": directory})
        if address:
            through = url.set(host=address, port=listener.getsockname()[1], query={})
        proxy = Lossy(listener, str(Path(str(url.query["host"])) / name))
        serving = threading.Thread(target=proxy.serve)
        serving.start()
        try:
            yield proxy, through
        finally:
            proxy.close()
            serving.join()
