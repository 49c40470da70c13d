"""Errors of the wire.

ContractError
├── CodecError   bytes or values that are not what Sparkplug B allows
├── TopicError   a topic outside the Sparkplug B namespace
├── ConfigError  a configuration that cannot be used (in `contract.config`)
└── HeaderError  user properties or record headers that cannot be read
"""

from __future__ import annotations


class ContractError(ValueError):
    """Something on the wire is not what the contract says; the message says what, where and what is allowed."""


class CodecError(ContractError):
    """A payload, a metric or a value that cannot be encoded or decoded."""


class TopicError(ContractError):
    """A topic that is not a Sparkplug B topic."""


class HeaderError(ContractError):
    """MQTT user properties or Kafka record headers that cannot be read."""
