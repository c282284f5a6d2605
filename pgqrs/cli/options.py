"""What the global options say, and what commands get from it: configuration, admin, output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from pgqrs.cli.formats import Format
from pgqrs.cli.render import Output

if TYPE_CHECKING:
    from pgqrs.admin import Admin
    from pgqrs.config import Config

__all__ = ["Format", "Options", "options_of"]


@dataclass(frozen=True, slots=True)
class Options:
    """The global options; None where one is not given."""

    dsn: str | None = None
    schema: str | None = None
    config_file: str | None = None
    format: Format = Format.TABLE
    out: str | None = None

    def config(self, *, default_dsn: str | None = None) -> Config:
        """Load the configuration; `default_dsn` is for where no source names a database.

        Raises MissingConfigError, InvalidConfigError.
        """
        from pgqrs.config import Config

        return Config.load(self.dsn or default_dsn, self.config_file, self.schema)

    def admin(self) -> Admin:
        """Give an Admin, to be used in a `with` block."""
        from pgqrs.admin import Admin

        return Admin(self.config())

    @property
    def output(self) -> Output:
        """Where results go."""
        return Output(self.format, self.out)


def options_of(context: typer.Context) -> Options:
    """Give the options that the command was called with."""
    return context.find_object(Options) or Options()
