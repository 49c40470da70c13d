"""Errors of the bridge.

BridgeError           the bridge cannot go on; the message says why, and the process ends with status 1
└── KafkaNotReady     Kafka or a topic is not there yet: worth another try
    └── TopicMissing  a topic that somebody has to create
"""

from __future__ import annotations


class BridgeError(Exception):
    """What ends the bridge: nothing that Kafka has not acknowledged was acknowledged to MQTT, so nothing is lost."""


class KafkaNotReady(BridgeError):  # noqa: N818 - a state of the other side, not a fault of ours
    """Kafka cannot be reached, or lacks a topic: the bridge waits and tries again."""


class TopicMissing(KafkaNotReady):
    """A topic is not there, and the bridge may not create it."""
