"""Open the shop: a PostgreSQL of its own, its tables, a worker in a thread, and the web server."""

from __future__ import annotations

import argparse
import threading

import uvicorn
from sqlalchemy import create_engine

import pgqrs
from examples.shop.app import create_app
from examples.shop.database import prepare
from examples.shop.worker import consumer_for, work
from pgqrs.embedded import EmbeddedPostgres


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.shop", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="where to serve (8000)")
    parser.add_argument("--dsn", help="a PostgreSQL of yours, instead of one for the occasion")
    options = parser.parse_args()
    if options.dsn:
        serve(options.dsn, options.port)
    else:
        with EmbeddedPostgres(durable=False) as server:
            serve(server.dsn(), options.port)


def serve(dsn: str, port: int) -> None:
    """Prepare the database, and run the worker beside the web server."""
    engine = create_engine(pgqrs.Config.from_dsn(dsn).url)
    prepare(engine)
    with consumer_for(engine) as consumer:
        worker = threading.Thread(target=work, args=(consumer, engine), name="shop-worker")
        worker.start()
        print(f"The shop is open: http://127.0.0.1:{port}/docs (Ctrl-C closes it)", flush=True)
        try:
            uvicorn.run(create_app(engine), port=port, log_level="warning")
        except KeyboardInterrupt:
            pass
        finally:
            consumer.stop()
            worker.join()
    engine.dispose()


if __name__ == "__main__":
    main()
