"""What there is to store: ten nodes with a hundred points each, on their way for some minutes."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from kafka import KafkaProducer

from contract.datatypes import DataType
from contract.plain import encode_plain
from contract.records import RecordHeaders, record_key
from contract.sparkplug import SEQ_MODULUS, with_seq
from contract.topics import MessageType, Topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stack import Kafka

GROUP: Final = "bench"
DEVICE: Final = "line"
NODES: Final = 10
_STEP_MS: Final = 100
_TRAVELS_MS: Final = 40
_COUNTERS_END: Final = 30_000
# As a plant has them: mostly measured values, some counters and states.
_DATATYPES: Final = (DataType.DOUBLE, DataType.FLOAT, DataType.FLOAT, DataType.INT16, DataType.UINT32)


@dataclass(frozen=True)
class Load:
    """`readings` readings of `series` series, after those of `first` payloads, by which everything warms up.

    A payload has one reading of each series of its node.
    """

    readings: int
    series: int
    first: int

    @property
    def metrics(self) -> int:
        """In a payload."""
        return self.series // NODES

    @property
    def payloads(self) -> int:
        """Of all nodes, the first ones too."""
        return self.first + self.readings // self.metrics

    @property
    def rows(self) -> int:
        """Of all payloads."""
        return self.payloads * self.metrics

    @cached_property
    def first_ms(self) -> int:
        """When the first payload was sampled: the last one has just come."""
        return time.time_ns() // 1_000_000 - self.payloads // NODES * _STEP_MS

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """The numbers, [payload, metric], float64: walks of floats and whole numbers."""
        steps = np.random.default_rng(1).normal(0, 0.01, (self.payloads, self.metrics))
        steps[:, self._is_whole()] = np.abs(steps[:, self._is_whole()] * 300).round()
        walks = np.cumsum(steps, axis=0, dtype=np.float32).astype(np.float64) + 1
        walks[:, self._is_whole()] %= _COUNTERS_END
        return walks

    def _is_whole(self) -> NDArray[np.bool_]:
        return np.array([self.datatype(m) in (DataType.INT16, DataType.UINT32) for m in range(self.metrics)])

    def datatype(self, metric: int) -> DataType:
        """Of a metric."""
        return _DATATYPES[metric % len(_DATATYPES)]

    def sampled_at_ms(self, payload: int) -> int:
        """When a payload's readings were sampled."""
        return self.first_ms + payload // NODES * _STEP_MS

    def fill(self, kafka: Kafka, topic: str, partitions: int, *, lines: bool) -> None:
        """Write all payloads to a new topic: as the bridge does, or as lines of InfluxDB's protocol."""
        kafka.create_topic(topic, partitions)
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks=1, linger_ms=20, batch_size=1 << 18)
        with closing(producer):
            for payload, value in enumerate(self._lines() if lines else self._payloads()):
                node, at_ms = payload % NODES, self.sampled_at_ms(payload)
                mqtt_topic = Topic(GROUP, MessageType.DDATA, node_name(node), DEVICE)
                headers = RecordHeaders(str(mqtt_topic), at_ms + _TRAVELS_MS).to_kafka()
                producer.send(topic, value, record_key(GROUP, node_name(node)), headers=None if lines else headers)
            producer.flush(120)

    def _payloads(self) -> Iterator[bytes]:
        for payload, row in enumerate(self.values):
            at_ms = self.sampled_at_ms(payload)
            plain = (
                (metric_name(m), self.datatype(m), int(value) if whole else value, at_ms)
                for m, (value, whole) in enumerate(zip(row.tolist(), self._wholes, strict=True))
            )
            yield with_seq(encode_plain(at_ms, plain), payload // NODES % SEQ_MODULUS)

    def _lines(self) -> Iterator[bytes]:
        tags = [
            [
                f"reading,group={GROUP},node={node_name(node)},device={DEVICE},metric={metric_name(m)} value="
                for m in range(self.metrics)
            ]
            for node in range(NODES)
        ]
        for payload, row in enumerate(self.values):
            tail = f",quality=192i {self.sampled_at_ms(payload) * 1_000_000}"
            opening = zip(tags[payload % NODES], row.tolist(), strict=True)
            yield "\n".join(f"{tag}{value}{tail}" for tag, value in opening).encode()

    @cached_property
    def _wholes(self) -> list[bool]:
        return self._is_whole().tolist()  # type: ignore[no-any-return]  # numpy's tolist is untyped


def node_name(node: int) -> str:
    """Its Sparkplug id."""
    return f"node-{node:03}"


def metric_name(metric: int) -> str:
    """As an agent names its points."""
    return f"unit{metric % 8}/value{metric:04}"
