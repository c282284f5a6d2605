"""What pgqrs does: plain typed functions of a connection, for both the sync and asyncio classes.

Each takes SQLAlchemy's synchronous Connection first and the schema's name second, sends statements
and gives values. Who may call them, in whose transaction, is for the layers above.
"""
