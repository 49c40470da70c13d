"""Commands to a node or a device (NCMD, DCMD), and the answer that each of them gets.

A command is one metric: what to do, or the metric to set and its new value. Beside it may stand `COMMAND_ID`, a text of
the sender's choice, which the answer repeats. The answer is a metric of the node's, or of the device's, DATA.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from contract.errors import CodecError
from contract.sparkplug import REBIRTH, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

RELOAD: Final = "Node Control/Reload"
COMMAND_ID: Final = "Headwater/Command/Id"
ANSWER: Final = "Headwater/Command/Answer"
NODE_COMMANDS: Final = (REBIRTH, RELOAD)
MAX_ID_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What became of a command; `value` is what was read back after a write, `reason` why it was refused."""

    command: str
    done: bool
    command_id: str | None = None
    value: float | str | None = None
    reason: str | None = None

    def to_metric(self, timestamp_ms: int) -> Metric:
        """The answer as a metric: JSON in a text, so that any Sparkplug host can show it."""
        return Metric(ANSWER, DataType.STRING, json.dumps(asdict(self)), timestamp_ms)

    @classmethod
    def from_metric(cls, metric: Metric) -> CommandAnswer:
        """The answer in a metric called `ANSWER`; raises CodecError when it is none."""
        try:
            return cls(**json.loads(str(metric.value)))
        except (TypeError, ValueError) as exc:
            raise CodecError(f"{ANSWER} {str(metric.value)[:80]!r} is no answer: {exc}") from exc


def command_id(metrics: Sequence[Metric]) -> str | None:
    """The id that a command carries, cut to `MAX_ID_CHARACTERS`; None where it has none."""
    found = next((metric.value for metric in metrics if metric.name == COMMAND_ID), None)
    return found[:MAX_ID_CHARACTERS] if isinstance(found, str) else None
