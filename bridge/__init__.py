"""MQTT to Kafka: one record per Sparkplug payload, and word back to each node of what is durable.

The core is pure and knows no library: `triage` (what becomes of a message), `acks` (PUBACK order), `marks`
(durable marks), `births` (rebirth requests), `gate` (what is let in). `mqtt` and `producer` are the shell;
`flow` joins them in one thread.
"""
