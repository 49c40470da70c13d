from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg2
import pytest

from contract.datatypes import DataType
from contract.sparkplug import Metric
from stream.ingest.batch import NUMERIC, Batch, SeriesKey, series_of_readings
from stream.ingest.rows import NumericSeries
from stream.ingest.series import REFUSED, SeriesDictionary
from stream.ingest.sink import BatchKey, store
from stream.ingest.versions import Announced, Version, next_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psycopg2.extensions import connection

    from tests.stream.conftest import Database

    Make = Callable[..., Any]

NOW = 1_700_000_000_000
AT = datetime.fromtimestamp(NOW / 1000, UTC)
LEVEL = Metric("level", DataType.DOUBLE, 1.0, NOW, unit="m")
SERIES = "select version, datatype, unit, valid_from from series order by series_id"
STORED = "select version, sampled_at, value from reading join series using (series_id) order by sampled_at, version"


@pytest.fixture
def opened(migrated: Database) -> Iterator[connection]:
    opened = psycopg2.connect(migrated.writer)
    yield opened
    opened.close()


@pytest.fixture
def write(opened: connection, table_of: Make) -> Callable[..., None]:
    """Stores each batch (a list of records) under the next number, with one dictionary."""
    series, numbers = SeriesDictionary(opened), iter(range(1000))

    def batches(*batches: list[Any]) -> None:
        for records in batches:
            store(opened, series, BatchKey(UUID(int=1), next(numbers)), Batch(table_of(*records)))

    return batches


class Plant:
    """Records of a device, numbered as they are made; times in s after NOW."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._offset = 0

    def _next(self) -> int:
        self._offset += 1
        return self._offset

    def birth(self, at_s: float, unit: str | None = "m", datatype: DataType = DataType.DOUBLE) -> Any:
        at_ms = NOW + round(at_s * 1000)
        metric = replace(LEVEL, unit=unit, datatype=datatype, timestamp_ms=at_ms, value=None)
        return self._make(kind="DBIRTH", metrics=[metric], offset=self._next(), received_at_ms=at_ms)

    def reading(self, at_s: float, received_s: float | None = None) -> Any:
        at_ms = NOW + round(at_s * 1000)
        received_ms = at_ms if received_s is None else NOW + round(received_s * 1000)
        return self._make({"level": at_s}, offset=self._next(), sampled_at_ms=at_ms, received_at_ms=received_ms)


@pytest.fixture
def plant(payload_record: Make) -> Plant:
    return Plant(payload_record)


def test_another_unit_is_another_version_from_then_on(
    migrated: Database, write: Callable[..., None], plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    write(
        [plant.birth(0), plant.reading(1)],
        [plant.reading(2), plant.birth(3, "ft"), plant.reading(4)],
        [plant.reading(5), plant.reading(2.5, 6)],
    )
    assert migrated.rows(SERIES) == [(1, 10, "m", None), (2, 10, "ft", AT + timedelta(seconds=3))]
    stored = [(version, value) for version, _, value in migrated.rows(STORED)]
    assert stored == [(1, 1.0), (1, 2.0), (1, 2.5), (2, 4.0), (2, 5.0)], "by when it was sampled, not by when it came"
    assert migrated.rows("select value, unit from reading_named order by sampled_at") == [
        (1.0, "m"),
        (2.0, "m"),
        (2.5, "m"),
        (4.0, "ft"),
        (5.0, "ft"),
    ]
    assert migrated.rows("select group_id, node_id, device_id, metric, at, kind, detail from node_event") == [
        (
            "g",
            "n",
            "d",
            "level",
            AT + timedelta(seconds=3),
            "series_changed",
            {
                "kind": "numeric",
                "version": 2,
                "before": {"datatype": 10, "unit": "m"},
                "after": {"datatype": 10, "unit": "ft"},
            },
        )
    ]
    assert "level of g/n/d changes from DOUBLE m to DOUBLE ft: it goes on as version 2" in caplog.text


def test_the_log_read_again_finds_the_versions_it_made(
    migrated: Database, write: Callable[..., None], plant: Plant
) -> None:
    log = [
        plant.birth(0, None),
        plant.reading(1),
        plant.birth(2, "m"),
        plant.reading(3),
        plant.birth(4, "ft"),
        plant.reading(5),
        plant.birth(6, "m"),
        plant.reading(7),
        plant.birth(8, "m", DataType.INT32),
        plant.reading(9),
        plant.birth(10, None, DataType.INT32),
    ]
    write(log)
    once = migrated.rows(SERIES), migrated.rows(STORED), migrated.rows("select at, detail from node_event order by at")
    assert [row[:3] for row in once[0]] == [(1, 10, "m"), (2, 10, "ft"), (3, 10, "m"), (4, 3, "m")]
    assert [(version, value) for version, _, value in once[1]] == [(1, 1.0), (1, 3.0), (2, 5.0), (3, 7.0), (4, 9.0)]
    write(log, *([record] for record in log), log[::-1])
    again = migrated.rows(SERIES), migrated.rows(STORED), migrated.rows("select at, detail from node_event order by at")
    assert again == once


@pytest.mark.parametrize("size", [1, 3])
def test_versions_do_not_depend_on_how_the_log_is_cut(
    migrated: Database, write: Callable[..., None], plant: Plant, size: int
) -> None:
    units = ["m", "m", "ft", "m", "ft", "ft"]
    log = [record for n, unit in enumerate(units) for record in (plant.birth(2 * n, unit), plant.reading(2 * n + 1))]
    write(*(log[n : n + size] for n in range(0, len(log), size)))
    assert [row[:3] for row in migrated.rows(SERIES)] == [(1, 10, "m"), (2, 10, "ft"), (3, 10, "m"), (4, 10, "ft")]
    assert [row[0] for row in migrated.rows(STORED)] == [1, 1, 2, 3, 4, 4]


def test_a_number_that_becomes_a_text_is_told(migrated: Database, write: Callable[..., None], plant: Plant) -> None:
    write([plant.birth(0)], [plant.birth(1, None, DataType.STRING)] * 2)
    assert migrated.rows("select metric, kind, detail->'before' from node_event") == [
        ("level", "series_changed", {"kind": "numeric"})
    ]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (Announced(10, "m", NOW + 1), None),
        (Announced(10, None, NOW + 1), None),
        (Announced(10, "ft", NOW), None),
        (Announced(10, "ft", NOW - 1), None),
        (Announced(10, "ft", None), None),
        (Announced(10, "ft", NOW + 1), (10, "ft", 4, NOW + 1)),
        (Announced(3, None, NOW + 1), (3, "m", 4, NOW + 1)),
    ],
)
def test_what_makes_a_version(told: Announced, expected: tuple[object, ...] | None) -> None:
    assert next_version(Version(7, 3, 10, "m", NOW), told) == expected


def test_another_connections_versions_are_noticed(
    migrated: Database, opened: connection, plant: Plant, table_of: Make
) -> None:
    batch = Batch(table_of(plant.reading(1), plant.reading(9)))
    column, times = series_of_readings(batch.readings), batch.readings.sampled_at_ms
    reader = SeriesDictionary(opened)
    (first, _) = reader.ids(column).tolist()
    with psycopg2.connect(migrated.writer) as other:
        births = Batch(table_of(plant.birth(0), plant.birth(5, "ft"))).of(NumericSeries)
        SeriesDictionary(other).announce(births, NUMERIC)
    other.close()
    second = migrated.one("select max(series_id) from series")
    assert reader.ids(column).tolist() == [second, second], "the newest"
    assert reader.ids(column, times).tolist() == [first, second]


def test_a_node_that_makes_up_names_is_stopped_and_told_of_once(
    migrated: Database,
    opened: connection,
    payload_record: Make,
    table_of: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    series = SeriesDictionary(opened, max_per_node=10)
    births = [Metric(f"b{n}", DataType.DOUBLE, 1.0, NOW) for n in range(6)]
    batches = [
        [payload_record(kind="DBIRTH", metrics=births, offset=0), payload_record({"b0": 1.0}, offset=1)],
        [
            payload_record({f"m{n}": 1.0 for n in range(8)} | {"t": "text"}, offset=2),
            payload_record({"x": 1.0}, offset=3, node="other"),
            payload_record({"m7": 2.0, "b1": 1.0}, offset=4, sampled_at_ms=NOW + 1),
        ],
    ]
    found = [
        store(opened, series, BatchKey(UUID(int=1), n), Batch(table_of(*records))) for n, records in enumerate(batches)
    ]
    assert migrated.rows("select node_id, count(*) from series group by node_id order by 1") == [
        ("n", 10),
        ("other", 1),
    ]
    assert migrated.one("select count(*) from reading") == 12
    assert migrated.one("select count(*) from reading where series_id = -1") == 0
    assert [(each.readings, each.texts, each.duplicates, each.dead_letters) for each in found if each] == [
        (6, 0, 1, 0),
        (6, 0, 0, 2),
    ]
    letters = migrated.rows("select kafka_offset, item, reason from dead_letter order by kafka_offset")
    assert [letter[:2] for letter in letters] == [(2, -1), (4, -1)]
    assert "5 readings of 4 new metrics" in letters[0][2]
    assert migrated.rows("select node_id, kind, detail->'limit' from node_event") == [("n", "series_limit", 10)]
    assert caplog.text.count("node g/n has 10 series, the most allowed") == 1


def test_a_full_node_keeps_the_version_it_has(
    migrated: Database, opened: connection, plant: Plant, table_of: Make
) -> None:
    series = SeriesDictionary(opened, max_per_node=1)
    for records in ([plant.birth(0)], [plant.birth(1, "ft"), plant.reading(2)]):
        births = Batch(table_of(*records)).of(NumericSeries)
        series.announce(births, NUMERIC)
    assert migrated.rows(SERIES) == [(1, 10, "m", None)]
    assert migrated.rows("select kind from node_event") == [("series_limit",)]
    assert series._ids == {SeriesKey("g", "n", "d", "level", NUMERIC): 1}
    assert REFUSED not in series._ids.values()
