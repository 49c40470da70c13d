from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from contract.datatypes import DataType
from contract.records import DEAD_LETTER_TOPIC
from contract.sparkplug import Metric, Quality
from stream.ingest.columns import Readings, SeriesName, decode_columns
from stream.ingest.decode import Limits
from stream.ingest.rows import Record, TextReading

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_700_000_000_000
LIMITS = Limits(366 * 86_400_000, 3_600_000)
FIELDS = ("series_no", "sampled_at_ms", "received_at_ms", "is_historical", "quality", "value")


def test_readings_become_columns_in_order_and_survive_the_bytes(payload_record: Callable[..., Any]) -> None:
    bad = Metric("b", DataType.INT16, None, NOW + 1, quality=Quality.BAD)
    records = [
        payload_record({"a": 1.0, "state": "an", "b": 2.0}, offset=0),
        payload_record({"a": 3.0}, offset=1, metrics=[bad], historical=True, received_at_ms=NOW + 5),
    ]
    readings, others = decode_columns(records, LIMITS, DEAD_LETTER_TOPIC)
    assert [type(row) for row in others] == [Record, TextReading, Record]
    for found in (readings, Readings.from_bytes(readings.to_bytes())):
        assert found.series == (SeriesName("g", "n", "d", "a"), SeriesName("g", "n", "d", "b"))
        assert found.datatypes.tolist() == [10, 2]
        assert found.series_no.tolist() == [0, 1, 1, 0]
        assert found.sampled_at_ms.tolist() == [NOW, NOW, NOW + 1, NOW]
        assert found.received_at_ms.tolist() == [NOW, NOW, NOW + 5, NOW + 5]
        assert found.is_historical.tolist() == [False, False, False, True]
        assert found.quality.tolist() == [192, 192, 0, 192]
        assert [None if math.isnan(value) else value for value in found.value.tolist()] == [1.0, 2.0, None, 3.0]


def test_no_readings_are_columns_too(payload_record: Callable[..., Any]) -> None:
    readings, others = decode_columns([payload_record(offset=3)], LIMITS, DEAD_LETTER_TOPIC)
    again = Readings.from_bytes(readings.to_bytes())
    assert again.series == ()
    assert len(others) == 1
    for name in FIELDS:
        assert getattr(again, name).dtype == getattr(readings, name).dtype
        assert np.array_equal(getattr(again, name), np.array([]))
