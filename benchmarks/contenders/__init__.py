"""Who is measured: each module is a process of its own, started in an environment of its own."""
