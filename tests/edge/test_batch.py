from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from contract.datatypes import DataType
from contract.delivery import Gap
from contract.sparkplug import REBIRTH, Quality, decode
from edge.batch import MAX_METRICS, NODE, batches_of_poll, data_topic, failed_poll, gap_batch
from edge.reading import MetricInfo, Reading
from edge.uplink.births import NodeIdentity, births, death

values = st.one_of(
    st.tuples(st.just(DataType.DOUBLE), st.floats()),
    st.tuples(st.just(DataType.INT16), st.integers(-(2**40), 2**40)),
    st.tuples(st.just(DataType.UINT64), st.integers(-5, 2**65)),
    st.tuples(st.just(DataType.BOOLEAN), st.booleans()),
    st.tuples(st.just(DataType.STRING), st.text() | st.just("\ud800")),
    st.tuples(st.just(DataType.DOUBLE), st.none()),
)


@given(st.lists(st.tuples(values, st.integers(0, 2**45)), min_size=1, max_size=20), st.integers(0, 2**45))
def test_every_reading_arrives_once_and_what_its_type_cannot_hold_arrives_as_bad(
    given_values: list[tuple[tuple[DataType, object], int]], started_ms: int
) -> None:
    readings = [
        Reading(f"m{i}", datatype, value, at)  # type: ignore[arg-type]  # wrong values are the point
        for i, ((datatype, value), at) in enumerate(given_values)
    ]
    (batch,) = batches_of_poll("plant", readings, started_ms, 7)
    metrics = sorted(decode(batch.payload).metrics, key=lambda metric: int(metric.name[1:]))
    assert [(m.name, m.timestamp_ms) for m in metrics] == [(r.metric, r.sampled_at_ms) for r in readings]
    for metric, reading in zip(metrics, readings, strict=True):
        assert metric.value == reading.value or (metric.value, metric.quality) == (None, Quality.BAD)
    assert batch.from_ms <= min(started_ms, *(r.sampled_at_ms for r in readings))
    assert batch.to_ms == max(r.sampled_at_ms for r in readings)


def test_not_a_number_is_bad_and_costs_the_others_nothing() -> None:
    readings = [
        Reading("level", DataType.DOUBLE, 1.5, 10),
        Reading("flow", DataType.DOUBLE, math.nan, 10),
        Reading("speed", DataType.UINT16, 70_000, 10),
    ]
    (batch,) = batches_of_poll("plant", readings, 9, 10)
    found = [(m.name, m.value, m.quality) for m in decode(batch.payload).metrics]
    assert found == [("level", 1.5, 192), ("flow", None, 0), ("speed", None, 0)]


def test_a_great_poll_is_split_and_an_empty_one_is_nothing() -> None:
    readings = [Reading(f"m{i}", DataType.DOUBLE, float(i), 5) for i in range(2 * MAX_METRICS + 1)]
    batches = batches_of_poll("plant", readings, 5, 6)
    assert [len(decode(batch.payload).metrics) for batch in batches] == [MAX_METRICS, MAX_METRICS, 1]
    assert batches_of_poll("plant", [], 5, 6) == []


def test_a_failed_poll_is_told_for_every_metric() -> None:
    metrics = [MetricInfo("level", DataType.DOUBLE, "m"), MetricInfo("running", DataType.BOOLEAN)]
    (batch,) = batches_of_poll("plant", failed_poll(metrics, 1234), 1234, 1234)
    found = [(m.name, m.value, m.quality, m.timestamp_ms) for m in decode(batch.payload).metrics]
    assert found == [("level", None, Quality.BAD, 1234), ("running", None, Quality.BAD, 1234)]


def test_a_gap_is_a_batch_that_stands_for_its_span() -> None:
    gap = Gap(100, 200, "agent killed")
    batch = gap_batch("plant", gap, 300)
    assert Gap.from_metric(decode(batch.payload).metrics[0]) == gap
    assert (batch.device, batch.from_ms, batch.to_ms) == ("plant", 100, 200)


def test_topics() -> None:
    assert data_topic("g", "n", NODE) == "spBv1.0/g/NDATA/n"
    assert data_topic("g", "n", "plant") == "spBv1.0/g/DDATA/n/plant"


def test_births_say_everything_and_begin_with_the_node() -> None:
    level = MetricInfo("tank1/level", DataType.DOUBLE, "m", "water in tank 1")
    identity = NodeIdentity("g", "n", {NODE: [MetricInfo("Health/Uptime", DataType.DOUBLE, "s")], "plant": [level]})
    node, device = births(identity, 7, 1000)
    assert (node.topic, device.topic) == ("spBv1.0/g/NBIRTH/n", "spBv1.0/g/DBIRTH/n/plant")
    metrics = {m.name: m for m in decode(node.payload).metrics}
    assert (metrics["bdSeq"].value, metrics[REBIRTH].value, metrics["Health/Uptime"].unit) == (7, False, "s")
    (born,) = decode(device.payload).metrics
    assert (born.name, born.datatype, born.unit) == ("tank1/level", DataType.DOUBLE, "m")
    assert born.properties["description"].value == "water in tank 1"
    assert born.value is None, "an old value must not pass for a fresh one"


def test_a_death_has_the_birth_s_number_and_no_sequence_number() -> None:
    payload = decode(death(7, 1000))
    assert payload.seq is None
    assert [(m.name, m.value) for m in payload.metrics] == [("bdSeq", 7)]
