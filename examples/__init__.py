"""Applications that use pgqrs as theirs would; no part of the package."""
