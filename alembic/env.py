"""Alembic's entry into pgqrs's own history: `pgqrs install` and, from a checkout, `alembic`.

The version table lives inside the pgqrs schema, so that the history of an application in the same
database is untouched. Everything runs in one transaction, behind one advisory lock.
"""

from logging.config import fileConfig

import sqlalchemy as sa
from alembic import context

from pgqrs import migrations
from pgqrs.config import Config, validated_schema

given = context.config.attributes  # what `pgqrs install` hands over: connection and schema
arguments = context.get_x_argument(as_dictionary=True)
if not given and context.config.config_file_name:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)


def run_on(connection: sa.Connection, schema: str) -> None:
    """Make the schema if need be, then the steps, under the lock and in one transaction."""
    default = connection.dialect.default_schema_name
    context.configure(connection=connection, **migrations.comparison(schema, default))
    with context.begin_transaction():
        migrations.lock(connection, schema)
        migrations.check_door(connection, schema, migrations.Door.INSTALL)
        migrations.make_schema(connection, schema)
        context.run_migrations(schema=schema)


def run_offline(schema: str) -> None:
    """Print the SQL instead."""
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        transactional_ddl=True,
        **migrations.comparison(schema),
    )
    with context.begin_transaction():
        context.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
        context.run_migrations(schema=schema)


def schema_named() -> str:
    """Give the schema of this run: handed over, from the command line, or configured."""
    if "schema" in given:
        return given["schema"]
    return validated_schema(arguments["schema"]) if "schema" in arguments else Config().schema_


if context.is_offline_mode():
    run_offline(schema_named())
elif "connection" in given:
    run_on(given["connection"], schema_named())
else:
    config = Config.load(arguments.get("dsn"))
    engine = sa.create_engine(config.url, poolclass=sa.pool.NullPool)
    with engine.connect() as opened:
        run_on(opened, schema_named())
