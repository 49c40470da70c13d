"""Sparkplug B topics: `spBv1.0/{group}/{type}/{node}[/{device}]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from contract.errors import TopicError

NAMESPACE: Final = "spBv1.0"
# What MQTT keeps for itself, control characters, which no operator can type back, and what UTF-8 cannot carry.
_FORBIDDEN: Final = re.compile(r"[+#/\x00-\x1f\x7f\ud800-\udfff]")
_MAX_ID_BYTES: Final = 128


class MessageType(StrEnum):
    """What a message is; the device types carry a device in their topic."""

    NBIRTH = "NBIRTH"
    NDEATH = "NDEATH"
    NDATA = "NDATA"
    NCMD = "NCMD"
    DBIRTH = "DBIRTH"
    DDEATH = "DDEATH"
    DDATA = "DDATA"
    DCMD = "DCMD"

    @property
    def of_device(self) -> bool:
        """Whether the topic names a device."""
        return self.value.startswith("D")


UPSTREAM: Final = (
    MessageType.NBIRTH,
    MessageType.NDEATH,
    MessageType.NDATA,
    MessageType.DBIRTH,
    MessageType.DDEATH,
    MessageType.DDATA,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A Sparkplug B topic taken apart; `str()` puts it together. Raises TopicError for what cannot be one."""

    group: str
    message_type: MessageType
    node: str
    device: str | None = None

    def __post_init__(self) -> None:
        for what, identifier in (("group", self.group), ("node", self.node), ("device", self.device)):
            if identifier is not None:
                check_identifier(identifier, what)
        if self.message_type.of_device != (self.device is not None):
            need = "needs" if self.message_type.of_device else "does not take"
            raise TopicError(f"a {self.message_type} topic {need} a device")

    def __str__(self) -> str:
        levels = [NAMESPACE, self.group, self.message_type, self.node]
        return "/".join(levels if self.device is None else [*levels, self.device])


def check_identifier(identifier: str, what: str) -> None:
    """Raise TopicError unless a group, node or device may be called so."""
    if not identifier or len(identifier.encode(errors="replace")) > _MAX_ID_BYTES or _FORBIDDEN.search(identifier):
        raise TopicError(
            f"{what} {identifier!r}: allowed are 1 to {_MAX_ID_BYTES} bytes, no '+', '#', '/', no control characters"
        )


def parse_topic(topic: str) -> Topic:
    """The parts of a topic; raises TopicError when it is not a Sparkplug B node or device topic."""
    namespace, *levels = topic.split("/")
    if namespace != NAMESPACE or not 3 <= len(levels) <= 4:  # noqa: PLR2004 - group, type, node and perhaps a device
        raise TopicError(f"topic {topic!r}: allowed is {NAMESPACE}/GROUP/TYPE/NODE[/DEVICE]")
    group, kind, node, *device = levels
    if kind not in MessageType.__members__:
        raise TopicError(f"topic {topic!r}: type {kind!r}, allowed are {', '.join(MessageType)}")
    return Topic(group, MessageType(kind), node, device[0] if device else None)


def subscription(message_type: MessageType, group: str = "+") -> str:
    """The MQTT filter that matches every topic of a type in a group ("+": in all groups)."""
    return "/".join([NAMESPACE, group, message_type, "+", *(["+"] if message_type.of_device else [])])
