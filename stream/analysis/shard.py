"""A shard's work on the blocks of a micro-batch: state and blocks to state and findings. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from contract.sparkplug import Quality
from stream.analysis.detectors import Detectors
from stream.analysis.findings import Counts, Ends, Findings, SeriesRows
from stream.analysis.kept import Kept
from stream.analysis.marks import Marks
from stream.analysis.registry import NO_SLOT, Registry
from stream.ingest.columns import Readings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stream.analysis.arrivals import Arrivals, Floats, Slots, Times
    from stream.analysis.blocks import Block
    from stream.analysis.config import AnalysisConfig
    from stream.analysis.detectors import Detected


def advance(
    settings: AnalysisConfig, state: Mapping[str, bytes], blocks: Iterable[Block]
) -> tuple[dict[str, bytes], Findings]:
    """The parts of a shard's state that change, and what is found.

    Both follow from the order of each Kafka partition's records alone, however they are cut into calls. Raises
    FatalError for a state that another version made.
    """
    kept = Kept(state)
    in_order = sorted(blocks, key=lambda block: (block.kafka_partition, block.kafka_offset))
    registry = Registry(kept.arrays("series", Registry.FORMAT))
    known = len(registry)
    heard = _heard(in_order, registry, settings.max_series)
    kept.keep("series", registry.arrays(), Registry.FORMAT)
    arrivals = _arrivals(heard, registry, settings, kept)
    detected = Detectors(settings, kept).advance(arrivals, registry, known)
    counts = Counts(np.array([len(heard.slot)]), np.array([heard.left_out]))
    return kept.changed, _findings(detected, registry, _ends(in_order), counts)


@dataclass(frozen=True, slots=True, eq=False)
class _Heard:
    """Readings [n] of series that have a slot, in Kafka's order; `value` is NaN where it is not good."""

    slot: Slots
    at_ms: Times
    received_ms: Times
    is_live: NDArray[np.bool_]
    value: Floats
    left_out: int


def _heard(blocks: Sequence[Block], registry: Registry, limit: int) -> _Heard:
    parts = [_of_block(Readings.from_bytes(block.block), registry, limit) for block in blocks]
    names = ("slot", "at_ms", "received_ms", "is_live", "value")
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return _Heard(**columns, left_out=sum(part.left_out for part in parts))


def _of_block(readings: Readings, registry: Registry, limit: int) -> _Heard:
    slot = registry.take(readings.series, readings.datatypes, limit)[readings.series_no]
    known = slot != NO_SLOT
    return _Heard(
        slot[known],
        readings.sampled_at_ms[known],
        readings.received_at_ms[known],
        ~readings.is_historical[known],
        np.where(readings.quality == Quality.GOOD, readings.value, np.nan)[known],
        int(len(known) - known.sum()),
    )


def _arrivals(heard: _Heard, registry: Registry, settings: AnalysisConfig, kept: Kept) -> Arrivals:
    marks = Marks(round(settings.silence_s * 1000), kept.arrays("marks", Marks.FORMAT))
    marks.grow(len(registry), registry.nodes)
    arrivals = marks.advance(
        heard.slot,
        heard.at_ms,
        heard.value,
        received_ms=heard.received_ms,
        is_live=heard.is_live,
        node_of_slot=registry.node_of_slot,
    )
    kept.keep("marks", marks.arrays(), Marks.FORMAT)
    return arrivals


def _ends(blocks: Sequence[Block]) -> Ends:
    ends = {block.kafka_partition: block.kafka_end for block in blocks}
    return Ends(np.array([*ends], np.int32), np.array([*ends.values()], np.int64))


def _findings(detected: Detected, registry: Registry, ends: Ends, counts: Counts) -> Findings:
    """Of all series only those that something is told of."""
    rows: dict[str, Any] = {each.name: getattr(detected, each.name) for each in fields(detected)}
    slots = np.unique(np.concatenate([each.slot for each in rows.values()]))
    placed = {
        name: replace(each, slot=np.searchsorted(slots, each.slot).astype(np.int32)) for name, each in rows.items()
    }
    return Findings(_series(registry, slots), **placed, ends=ends, counts=counts)


def _series(registry: Registry, slots: Slots) -> SeriesRows:
    names = np.array(registry.names(slots), np.object_).reshape(-1, 4)
    return SeriesRows(names[:, 0], names[:, 1], names[:, 2], names[:, 3], registry.datatypes[slots])
