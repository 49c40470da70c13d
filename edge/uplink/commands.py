"""What a command asks of the uplink itself, and what of it is for the agent. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from contract.commands import COMMAND_ID
from contract.delivery import DURABLE_EPOCH, DURABLE_THROUGH, DurableMark
from contract.sparkplug import REBIRTH, decode
from contract.topics import parse_topic
from edge.batch import NODE

if TYPE_CHECKING:
    from contract.sparkplug import Payload

_OURS: Final = frozenset({DURABLE_EPOCH, DURABLE_THROUGH, REBIRTH})


@dataclass(frozen=True, slots=True)
class Command:
    """An NCMD (`device` is NODE) or DCMD, taken apart; `rest` is what the agent has to do, if anything."""

    device: str
    mark: DurableMark | None
    rebirth: bool
    rest: Payload | None


def read_command(topic: str, payload: bytes) -> Command:
    """The command in a message; raises ContractError for one that is none."""
    device = parse_topic(topic).device or NODE
    command = decode(payload)
    if device != NODE:
        return Command(device, None, rebirth=False, rest=command)
    theirs = tuple(metric for metric in command.metrics if metric.name not in _OURS)
    is_for_agent = command.rejected or any(metric.name != COMMAND_ID for metric in theirs)
    return Command(
        device,
        DurableMark.from_metrics(command.metrics),
        rebirth=any(metric.name == REBIRTH and metric.value is True for metric in command.metrics),
        rest=replace(command, metrics=theirs) if is_for_agent else None,
    )
