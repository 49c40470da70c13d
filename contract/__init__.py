"""The wire, written down once: topics, the Sparkplug B codec, delivery stamps, Kafka record headers.

Imports nothing heavier than pydantic and protobuf; every role stands on it, and it knows no role.
"""

__version__ = "0.1.0"
