"""What a node tells of its updates, as metrics of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.datatypes import DataType
from contract.update_news import update_metric
from edge.reading import MetricInfo, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

REFUSED_METRIC: Final = "Update/Refused"
_REFUSED: Final = MetricInfo(REFUSED_METRIC, DataType.STRING, None, "why the last desired state was not taken at all")


def update_infos(models: Sequence[str]) -> list[MetricInfo]:
    """What a node that takes updates may tell of them, for its birth."""
    names = [update_metric("agent", "agent"), update_metric("config", "config")]
    names += [update_metric("model", name) for name in models]
    infos = [MetricInfo(name, DataType.STRING, None, "how it stands with what runs of it, JSON") for name in names]
    return [*infos, _REFUSED]


def readings_of(told: Sequence[tuple[str, str]], now_ms: int) -> list[Reading]:
    """What is told, as readings."""
    return [Reading(name, DataType.STRING, text, now_ms) for name, text in told]
