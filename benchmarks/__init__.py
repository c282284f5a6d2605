"""How fast pgqrs is, beside floors and peers: ``make bench``; no part of the package."""
