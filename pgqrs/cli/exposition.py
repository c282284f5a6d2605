"""Serve metrics to Prometheus, in its text format 0.0.4, until the command is ended."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from pgqrs.cli.failures import UsageError, abort
from pgqrs.cli.options import options_of
from pgqrs.cli.render import console
from pgqrs.cli.signals import end_as_interrupted

__all__ = ["Listen", "serve"]

Listen = Annotated[
    str | None,
    typer.Option(metavar="[HOST:]PORT", help="Serve Prometheus on this address until Ctrl-C."),
]


def serve(context: typer.Context, listen: str) -> None:
    """Measure at each scrape, and serve until SIGTERM or Ctrl-C."""
    host, port = _address(context, listen)
    options = options_of(context)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    end_as_interrupted()
    with contextlib.suppress(KeyboardInterrupt), _serving(options.config(), host, port) as server:
        at = f"http://{_shown(host)}:{server.server_port}/metrics"
        options.output.done(at, url=at)
        sys.stdout.flush()
        console(sys.stderr).print("serving until Ctrl-C", style="dim")
        threading.Event().wait()


@contextlib.contextmanager
def _serving(config: Any, host: str, port: int) -> Iterator[Any]:
    try:
        from prometheus_client import CollectorRegistry, start_http_server

        from pgqrs.prometheus import QueueCollector
    except ImportError:
        abort("this needs prometheus-client: pip install 'pgqrs[prometheus]'")
    registry, collector = CollectorRegistry(), QueueCollector(config)
    registry.register(collector)
    with contextlib.closing(collector):
        server, thread = start_http_server(port, host, registry)
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _address(context: typer.Context, listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError("--listen takes HOST:PORT or PORT", context)
    return host.strip("[]") or "127.0.0.1", int(port)


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
