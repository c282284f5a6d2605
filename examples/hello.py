"""A plain script: some messages in, the same messages out.

python -m examples.hello
"""

from __future__ import annotations

import pgqrs
from examples.server import opened


def main() -> None:
    """Greet everybody who waits."""
    with opened("greetings") as engine:
        with pgqrs.Producer(engine, "greetings") as producer:
            producer.batch_enqueue({"name": name} for name in ("Ada", "Grace", "Barbara"))
            producer.enqueue({"name": "Your Majesty"}, priority=10)

        with pgqrs.Consumer(engine, "greetings") as consumer:
            while message := consumer.dequeue():
                print(f"Hello, {message.payload['name']}!")
                consumer.archive(message)


if __name__ == "__main__":
    main()
