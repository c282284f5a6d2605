"""The demo: the main job of a queue on real input, with a consumer killed on the way.

`command` is what is typed, `stage` the course of it, `crew` the consumer processes, `consumer`
what one of them does, `source` the work on one file, `records` what the database says,
`verdict` whether all went well, `display` how it looks meanwhile.
"""
