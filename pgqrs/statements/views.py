"""Views that show one queue each: `q_<queue>` its messages, `a_<queue>` its archive, and `queues`.

They are no part of the schema that revisions make: a queue has them where that was asked for.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    DDL,
    ColumnElement,
    Executable,
    Select,
    Text,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal_column,
    not_,
    select,
)
from sqlalchemy import table as sql_table
from sqlalchemy.dialects import postgresql

from pgqrs.models import tables
from pgqrs.statements.columns import ARCHIVED, MESSAGE, QUEUE, as_sent

__all__ = ["QUEUES", "create", "create_queues", "drop", "held", "names_of", "present"]

QUEUES: Final = "queues"
"""The view of all queues, which is there as long as any queue has views."""

_CLASSES: Final = sql_table(
    "pg_class",
    *(column(name) for name in ("relname", "relnamespace", "relkind", "relowner")),
    schema="pg_catalog",
)
_SPACES: Final = sql_table(
    "pg_namespace",
    *(column(name) for name in ("oid", "nspname", "nspowner")),
    schema="pg_catalog",
)
_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


def names_of(queue: str) -> tuple[str, str]:
    """Give the names of the views of a queue: of its messages, and of its archive."""
    return f"q_{queue}", f"a_{queue}"


def create(schema: str, queue: str, queue_id: int) -> dict[str, Executable]:
    """Make the views of a queue, by their names."""
    t = tables(schema)
    messages, archive = names_of(queue)
    return {
        messages: _view(schema, messages, _rows(t.messages, MESSAGE, queue_id)),
        archive: _view(schema, archive, _rows(t.archive, ARCHIVED, queue_id)),
    }


def create_queues(schema: str) -> Executable:
    """Make the view of all queues."""
    return _view(schema, QUEUES, select(*as_sent(tables(schema).queues, QUEUE)))


def drop(schema: str, name: str) -> Executable:
    """Drop a view that is there."""
    return _ddl(f"DROP VIEW {_full(schema, name)}")


def present() -> Select[Any]:
    """Give those of `names` that are views in `schema`."""
    return (
        select(_CLASSES.c.relname)
        .join(_SPACES, _SPACES.c.oid == _CLASSES.c.relnamespace)
        .where(
            _SPACES.c.nspname == bindparam("schema", type_=Text),
            _CLASSES.c.relkind == literal_column("'v'"),
            _CLASSES.c.relname == any_(bindparam("names", type_=ARRAY(Text))),
        )
        .order_by(_CLASSES.c.relname)
    )


def held() -> Executable:
    """Give those of `names` that are views in `schema` and not for this role to drop.

    With each, its owner's name. To drop one takes the rights of its owner or of the schema's.
    """
    owners = (_CLASSES.c.relowner, _SPACES.c.nspowner)
    not_mine = (not_(func.pg_has_role(owner, literal_column("'USAGE'"))) for owner in owners)
    return present().add_columns(cast(func.pg_get_userbyid(owners[0]), Text)).where(*not_mine)


def _rows(source: Any, names: tuple[str, ...], queue_id: int) -> Any:
    queue: ColumnElement[int] = literal_column(str(int(queue_id)))
    columns = [source.c[name] for name in names if name != "queue_id"]
    return select(*columns).where(source.c.queue_id == queue)


def _view(schema: str, name: str, rows: Any) -> Executable:
    body = rows.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
    return _ddl(f"CREATE VIEW {_full(schema, name)} AS {body}")


def _full(schema: str, name: str) -> str:
    quote = _DIALECT.identifier_preparer.quote
    return f"{quote(schema)}.{quote(name)}"


def _ddl(sql: str) -> Executable:
    # DDL, not text: a colon in a name is no parameter.
    return DDL(sql.replace("%", "%%"))  # type: ignore[no-untyped-call]
