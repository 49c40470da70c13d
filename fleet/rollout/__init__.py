"""Roll-outs: a version of an agent, a config or a model comes to the nodes of a group in stages, or stops.

`plan` says in which order, `judge` what to do next by what nodes have told; both do no I/O. `books` keeps what is known
in the database, `broker` writes to MQTT, `artifact` keeps the file, and `drive` goes from one look to the next.
"""
