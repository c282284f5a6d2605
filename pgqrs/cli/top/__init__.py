"""`pgqrs top`: how queues and workers stand, live on a terminal.

`view` is what is shown, `picture` draws it, `watch` measures in a thread of its own, `keys` reads
single keys, `screen` is the loop.
"""
