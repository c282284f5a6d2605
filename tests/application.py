"""An application with an Alembic history of its own, made from Alembic's templates."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import alembic
from alembic import command
from alembic.config import Config
from sqlalchemy import URL

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
"""
LOADED = 'run_path(str(Path(__file__).with_name("models.py")))["metadata"]'
REVISION = '''
"""{name}"""
from alembic import op
import sqlalchemy as sa
from pgqrs import migrations

revision = {name!r}
down_revision = {after!r}

def upgrade():
    {up}

def downgrade():
    {down}
'''


class Application:
    """A folder with env.py, models and revisions, and Alembic's commands on it.

    `options` are added to the online `context.configure`, as they would stand in env.py.
    """

    def __init__(
        self,
        folder: Path,
        url: URL,
        *,
        template: str = "generic",
        models: str = MODELS,
        options: str = "",
    ) -> None:
        self.folder = folder / "migrations"
        self.url = url
        self.locations = [self.folder / "versions"]
        self.last: str | None = None
        self._printed = io.StringIO()
        templates = Path(alembic.__file__).parent / "templates" / template
        (self.folder / "versions").mkdir(parents=True)
        for name in ("env.py", "script.py.mako"):
            shutil.copy(templates / name, self.folder)
        metadata = "" if "\nmetadata = " in models else "\nmetadata = Base.metadata\n"
        (self.folder / "models.py").write_text(models + metadata)
        self._edit_env(options)

    def _edit_env(self, options: str) -> None:
        env = self.folder / "env.py"
        text = env.read_text().replace("target_metadata = None", f"target_metadata = {LOADED}")
        imports = (
            "from pathlib import Path\nfrom runpy import run_path\nfrom pgqrs import migrations\n"
        )
        given = "target_metadata=target_metadata"
        online = text.rindex(given) + len(given)
        text = text[:online] + f", {options}" * bool(options) + text[online:]
        env.write_text(imports + text)

    def _config(self) -> Config:
        config = Config(stdout=self._printed, output_buffer=self._printed)
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", "\n".join(map(str, self.locations)))
        written = self.url.render_as_string(hide_password=False)
        config.set_main_option("sqlalchemy.url", written.replace("%", "%%"))
        return config

    def alembic(self, name: str, *arguments: Any, **options: Any) -> str:
        """Run a command of Alembic's, and give what it prints."""
        self._printed.seek(0)
        self._printed.truncate()
        getattr(command, name)(self._config(), *arguments, **options)
        return self._printed.getvalue()

    def add(self, name: str, up: str = "pass", down: str = "pass") -> None:
        """Write a revision after the last."""
        text = REVISION.format(name=name, after=self.last, up=up, down=down)
        (self.folder / "versions" / f"{name}.py").write_text(text.lstrip())
        self.last = name

    def generate(self, name: str, **options: Any) -> str:
        """Let Alembic write a revision after the last, and give its text."""
        self.alembic("revision", name, autogenerate=True, rev_id=name, **options)
        self.last = name
        (path,) = (self.folder / "versions").glob(f"{name}_*.py")
        return path.read_text()
