"""Install, verify and uninstall from the wheel of this very environment, on a server of its own."""

from pathlib import Path

import pgqrs
from pgqrs.embedded import EmbeddedPostgres

assert "site-packages" in Path(pgqrs.__file__).parts, pgqrs.__file__
with EmbeddedPostgres(durable=False) as server, pgqrs.Admin(server.dsn()) as admin:
    admin.install()
    findings = admin.verify()
    assert not findings, findings
    admin.create_queue("wheel")
    with pgqrs.Producer(admin, "wheel") as producer, pgqrs.Consumer(admin, "wheel") as consumer:
        producer.enqueue({"from": "a wheel"})
        message = consumer.dequeue()
        assert message is not None
        consumer.archive(message)
    admin.uninstall()
print(f"pgqrs {pgqrs.__version__} works from its wheel")
