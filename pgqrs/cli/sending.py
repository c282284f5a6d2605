"""Where the payloads of `message send` come from: an argument, a file, standard input; or lines."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import typer

from pgqrs.cli.failures import UsageError
from pgqrs.cli.progress import counting
from pgqrs.cli.render import counted
from pgqrs.errors import PartlyEnqueuedError, PayloadError

if TYPE_CHECKING:
    from pgqrs.cli.options import Options
    from pgqrs.producer import Producer

__all__ = ["as_json", "opened", "send_from"]

_SENT: Final = ("id", "priority", "max_attempts", "vt", "payload")
_HINT: Final = """: quote it for the shell, and a plain string twice, as in '"text"'"""


@contextmanager
def opened(context: typer.Context, payload: str | None, file: Path | None) -> Iterator[BinaryIO]:
    """Give where the text is read from. Raises UsageError unless exactly one is named."""
    if (payload is None) == (file is None):
        raise UsageError("give the payload, or - for standard input, or --file", context)
    if payload is not None:
        yield sys.stdin.buffer if payload == "-" else io.BytesIO(payload.encode())
        return
    assert file is not None  # noqa: S101 - said above
    try:
        stream = file.open("rb")
    except OSError as error:
        raise UsageError(f"file {str(file)!r} cannot be read: {error.strerror}", context) from None
    with stream:
        yield stream


def send_from(source: BinaryIO, options: Options, queue: str, *, lines: bool, **how: Any) -> None:
    """Enqueue what is read, or each line of it, and print what was sent.

    Raises PayloadError before anything is sent; of lines, PartlyEnqueuedError.
    """
    from pgqrs.producer import Producer

    text = None if lines else _checked(_unmarked(source.read()), "the payload", _HINT)
    with Producer(options.config(), queue) as producer:
        if text is not None:
            message = producer.enqueue(text, **how)
            if message is None:
                options.output.done("another message keeps it out", queue_name=queue, id=None)
            else:
                options.output.one(message, _SENT)
            return
        count = _send_lines(producer, source, how)
    options.output.done(f"sent {counted(count, 'message')}", queue_name=queue, sent=count)


def _send_lines(producer: Producer, lines: BinaryIO, how: dict[str, Any]) -> int:
    # In batches that are each a commit; nothing is read further than needed.
    at = _Place()
    with counting("sent", if_=lines is not sys.stdin.buffer or not sys.stdin.isatty()) as tell:
        try:
            return producer.batch_enqueue(_payloads(lines, tell, at), atomic=False, **how)
        except PartlyEnqueuedError as error:
            cause = error.__cause__
            if not isinstance(cause, PayloadError) or cause.index is None:
                raise
            refused = PayloadError(f"line {at.line}: {cause.__cause__}", cause.path)
            raise PartlyEnqueuedError(error.enqueued, refused) from refused


class _Place:
    """The line that was read last: the library looks at each before the next is read."""

    line = 0


def _payloads(lines: BinaryIO, tell: Callable[[int], None], at: _Place) -> Iterator[bytes]:
    for at.line, line in enumerate(lines, 1):
        if text := _unmarked(line).strip():
            yield _checked(text, f"line {at.line}")
            tell(1)


def as_json(text: str) -> Any:
    """Give the value of JSON text. Raises PayloadError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"this is not JSON text ({error}): {text!r}") from error


def _unmarked(text: bytes) -> bytes:
    return text.removeprefix(codecs.BOM_UTF8)


def _checked(text: bytes, what: str, hint: str = "") -> bytes:
    try:
        json.loads(text.decode())
    except RecursionError:
        pass  # the library says how deep is too deep
    except ValueError as error:
        raise PayloadError(f"{what} is not JSON text ({error}){hint}") from error
    return text
