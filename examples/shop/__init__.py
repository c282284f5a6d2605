"""A shop: FastAPI takes orders, a worker ships them, and each order is shipped exactly once.

``python -m examples.shop`` runs all of it on a PostgreSQL of its own.
"""
