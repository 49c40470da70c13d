"""The stateful operator: Spark hands it a shard's blocks, and keeps the shard's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import Row
from pyspark.sql.streaming.stateful_processor import StatefulProcessor

from stream.analysis.blocks import Block
from stream.analysis.shard import advance
from stream.ingest.transform import spare_collector
from stream.workers import step_back

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import DataFrame
    from pyspark.sql.streaming.stateful_processor import MapState, StatefulProcessorHandle

    from stream.analysis.config import AnalysisConfig

_FOUND: Final = "shard int, findings binary"


def found(blocks: DataFrame, settings: AnalysisConfig) -> DataFrame:
    """The columns of `Block` to `shard` and `findings`, a row for each shard that has blocks."""
    return blocks.groupBy("shard").transformWithState(_Operator(settings), _FOUND, "Append", "None")


class _Operator(StatefulProcessor):
    """A shard's parts are values of a map: those that did not change are not written, or not even read."""

    def __init__(self, settings: AnalysisConfig) -> None:
        self._settings = settings

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._parts = handle.getMapState("parts", "part string", "state binary")

    def handleInputRows(self, key: Any, rows: Iterator[Row], timerValues: Any) -> Iterator[Row]:  # noqa: ANN401, ARG002, N802, N803 - Spark's interface
        step_back()
        spare_collector()
        changed, findings = advance(self._settings, _State(self._parts), [_block(row) for row in rows])
        for part, state in changed.items():
            self._parts.updateValue((part,), (state,))
        yield Row(shard=key[0], findings=findings.to_bytes())

    def close(self) -> None:
        """Nothing is held."""


class _State(Mapping[str, bytes]):
    """The parts, each read when it is asked for."""

    def __init__(self, parts: MapState) -> None:
        self._parts = parts

    def __contains__(self, part: object) -> bool:
        return bool(self._parts.containsKey((part,)))

    def __getitem__(self, part: str) -> bytes:
        value = self._parts.getValue((part,)) if part in self else None
        if value is None:
            raise KeyError(part)
        return bytes(value[0])

    def __iter__(self) -> Iterator[str]:
        return (key[0] for key in self._parts.keys())  # noqa: SIM118 - a MapState is no mapping

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _block(row: Row) -> Block:
    return Block(row.shard, row.kafka_partition, row.kafka_offset, row.kafka_end, bytes(row.block))
