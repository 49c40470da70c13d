"""MQTT to Kafka: one record per Sparkplug payload, and word back to each node of what is durable.

Messages go through it in batches: what one read of the network brought is one event, `packets` takes it apart, and
`records` makes whole record batches of it, whose answer acknowledges all of them in one write.

The core is pure: `packets` and `stamp` (MQTT as bytes), `gate` (what is let in), `triage` (what becomes of a message),
`records` (Kafka's batches as bytes), `acks` (PUBACK order), `marks` (durable marks), `births` (rebirth requests).
`mqtt` with `client`, and `producer` with `handover` and `cluster` are the shell; `flow` joins them in one thread.
"""
