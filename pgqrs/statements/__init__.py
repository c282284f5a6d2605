"""What SQL pgqrs sends, as SQLAlchemy Core; executes nothing.

A module for each duty; each public function takes the schema's name and gives its statement, built
once. Due times are compared with `statement_timestamp()`, which an index condition can hold, and
leases are written with `clock_timestamp()`. States are literals, so that generic plans can use the
partial indexes.
"""
