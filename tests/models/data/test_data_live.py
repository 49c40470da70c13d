"""Data of a running system: what the database holds, brought to a recipe's steps, and put aside under a name."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import psycopg2
import pytest
from psycopg2.extras import execute_values

from contract.manifest import Feature, ModelInput, View, Window
from contract.windows import Steps, resampled
from models.data import describe, describe_all, load, timescale
from models.data.arrays import write_arrays
from models.data.dataset import Dataset, Incident, Table
from models.data.kept import keep
from models.data.timescale import Place, load_live
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.options import Options
    from stack import Timescale

FROM_AT = dt.datetime(2026, 3, 1, 23, 59, tzinfo=dt.UTC)
TO_AT = FROM_AT + dt.timedelta(minutes=10)
FROM_MS = round(FROM_AT.timestamp() * 1000)
GOOD, BAD = 192, 0
KEPT = '{"title": "t", "origin": "o", "licence": "l", "step_s": 1, "units": {"a": null}, "tables": []}'

Reading = tuple[int, "float | None", int]


@pytest.fixture(scope="module")
def dsn(timescale: Timescale) -> Iterator[str]:
    """A migrated database with a plant of two metrics and an exchange of two symbols."""
    name = f"models_{os.getpid()}_{uuid4().hex[:8]}"
    made = timescale.create_database(name)
    environment = {**os.environ, "HEADWATER_DSN": made}
    subprocess.run([sys.executable, "-m", "db", "migrate"], env=environment, check=True, timeout=60)
    for device, metric, unit, readings in contents():
        store(made, device, metric, unit, readings)
    yield made
    timescale.drop_database(name)


@pytest.fixture
def connected(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_DSN", dsn)


def irregular(seed: int, every_ms: int, count: int) -> list[Reading]:
    """Readings about so far apart; some are bad, with and without a value."""
    rng = np.random.default_rng(seed)
    at_ms = FROM_MS - 5000 + np.sort(rng.choice(every_ms * count, count, replace=False))
    values, kinds = rng.normal(3, 1, count), rng.choice(3, count, p=[0.9, 0.05, 0.05])
    return [
        (int(at), None if kind == 2 else float(value), GOOD if kind == 0 else BAD)
        for at, value, kind in zip(at_ms, values, kinds, strict=True)
    ]


LEVEL, FLOW = irregular(1, 1000, 630), irregular(2, 300, 2100)


def contents() -> Iterator[tuple[str, str, str | None, list[Reading]]]:
    yield "plant", "tank1/level", "m", LEVEL
    yield "plant", "intake/flow", "m3/h", FLOW
    yield "plant", "unasked", None, irregular(3, 1000, 10)
    for place, symbol in enumerate(("AAPL", "IBM")):
        yield "exchange", f"{symbol}/price", None, irregular(4 + place, 5000, 100)
        yield "exchange", f"{symbol}/previous_price", None, irregular(6 + place, 5000, 10)


def store(dsn: str, device: str, metric: str, unit: str | None, readings: list[Reading], version: int = 1) -> None:
    opened = psycopg2.connect(dsn)
    with opened, opened.cursor() as cursor:
        cursor.execute(
            "insert into series (group_id, node_id, device_id, metric, kind, datatype, unit, version) "
            "values ('Works', 'line-a', %s, %s, 'numeric', 10, %s, %s) returning series_id",
            (device, metric, unit, version),
        )
        (series_id,) = cursor.fetchone() or (0,)
        rows = [(series_id, dt.datetime.fromtimestamp(at / 1000, dt.UTC), value, good) for at, value, good in readings]
        execute_values(cursor, "insert into reading (series_id, sampled_at, value, quality) values %s", rows)
    opened.close()


def view(*inputs: ModelInput, step_s: float = 5.0) -> View:
    first = inputs[0].name
    return View(inputs=inputs, window=Window(length=4, step_s=step_s), features=(Feature(name="x", of=(first,)),))


PLANT = view(
    ModelInput(name="level", metric="tank1/level", unit="m", resample="mean"),
    ModelInput(name="highest", metric="tank1/level", unit="m", resample="max"),
    ModelInput(name="flow", metric="intake/flow"),
)


def within(readings: list[Reading]) -> tuple[np.ndarray, np.ndarray]:
    """Times and values between the two times; NaN where it is bad."""
    chosen = [each for each in readings if FROM_MS <= each[0] < TO_AT.timestamp() * 1000]
    values = [value if good == GOOD and value is not None else np.nan for _, value, good in chosen]
    return np.array([each[0] for each in chosen], np.int64), np.array(values, np.float64)


@pytest.mark.parametrize("batch", [50_000, 100, 7])
@pytest.mark.usefixtures("connected")
def test_readings_are_brought_to_steps_by_the_contracts_rules(
    batch: int, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timescale, "_BATCH", batch)
    dataset = load_live("Works/line-a/plant", PLANT, FROM_AT, TO_AT, options)
    (table,) = dataset.tables
    (level_at, level), (flow_at, flow) = within(LEVEL), within(FLOW)
    expected = resampled(PLANT.inputs, PLANT.window, [level_at, level_at, flow_at], [level, level, flow])
    np.testing.assert_array_equal(table.steps.at_ms, expected.at_ms)
    np.testing.assert_array_equal(table.steps.values, expected.values)
    np.testing.assert_array_equal(table.steps.is_spoilt, expected.is_spoilt)
    assert np.isnan(expected.values).any()
    assert len(expected.at_ms) > 100
    assert dataset.columns == ("level", "highest", "flow")
    assert dataset.step_s == 5


@pytest.mark.usefixtures("connected")
def test_versions_of_a_series_are_read_together_where_they_are_in_one_unit(dsn: str, options: Options) -> None:
    third = len(LEVEL) // 3
    spans = ((None, "ft"), (third, "m"), (2 * third, "m"))
    for version, (start, unit) in enumerate(spans, start=1):
        end = third * version if version < len(spans) else None
        store(dsn, "changed", "level", unit, LEVEL[start:end], version)
    levels = view(ModelInput(name="level", unit="m"))
    (table,) = load_live("Works/line-a/changed", levels, FROM_AT, TO_AT, options).tables
    at_ms, values = within(LEVEL[third:])
    expected = resampled(levels.inputs, levels.window, [at_ms], [values])
    np.testing.assert_array_equal(table.steps.at_ms, expected.at_ms)
    np.testing.assert_array_equal(table.steps.values, expected.values)


@pytest.mark.usefixtures("connected")
def test_symbols_are_a_table_each(options: Options) -> None:
    prices = view(ModelInput(name="price"), ModelInput(name="high", metric="price", resample="max"), step_s=60)
    dataset = load_live("Works/line-a/exchange", prices, FROM_AT, TO_AT, options)
    assert [table.key for table in dataset.tables] == ["AAPL", "IBM"]
    first, second = (table.steps.values for table in dataset.tables)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("place", "inputs", "said"),
    [
        ("Works/line-a", (ModelInput(name="tank1/level"),), "Works/line-a: the database knows no numbers of it"),
        (
            "Works/line-a/plant",
            (ModelInput(name="tank9/level"),),
            "has no tank9/level; it has intake/flow, tank1/level",
        ),
        (
            "Works/line-a/plant",
            (ModelInput(name="tank1/level", unit="cm"),),
            "tank1/level is in m, and the recipe wants cm",
        ),
        ("plant", (ModelInput(name="tank1/level"),), "'plant': allowed are GROUP/NODE/DEVICE"),
        ("Works//plant", (ModelInput(name="tank1/level"),), "'Works//plant': allowed are GROUP/NODE/DEVICE"),
    ],
)
@pytest.mark.usefixtures("connected")
def test_what_is_not_there_is_said(place: str, inputs: tuple[ModelInput, ...], said: str, options: Options) -> None:
    with pytest.raises(DataError, match=said):
        load_live(place, view(*inputs), FROM_AT, TO_AT, options)


@pytest.mark.usefixtures("connected")
def test_time_without_readings_is_an_error(options: Options) -> None:
    with pytest.raises(DataError, match="timescale:Works/line-a/plant: has no rows"):
        load_live("Works/line-a/plant", PLANT, FROM_AT.replace(year=2001), TO_AT.replace(year=2001), options)


@pytest.mark.parametrize(
    ("from_at", "to_at"),
    [
        (TO_AT, FROM_AT),
        (FROM_AT.replace(tzinfo=None), TO_AT.replace(tzinfo=None)),
        (FROM_AT, FROM_AT.replace(year=9999)),
    ],
)
def test_span_that_is_none_is_refused(from_at: dt.datetime, to_at: dt.datetime, options: Options) -> None:
    with pytest.raises(DataError, match="allowed are"):
        load_live("Works/line-a/plant", PLANT, from_at, to_at, options)


@pytest.mark.usefixtures("connected")
def test_nothing_can_be_written() -> None:
    with (
        pytest.raises(DataError, match=r"the database cannot be read: .*read-only transaction"),
        timescale.connected() as opened,
        opened.cursor() as cursor,
    ):
        cursor.execute("delete from reading")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            "host=127.0.0.1 port=1 user=x password=hunter2",
            "the database cannot be reached .it is that of HEADWATER_DSN",
        ),
        ("postgresql//x:hunter2@here", "HEADWATER_DSN: is not a connection string"),
    ],
)
def test_database_that_is_not_there_is_told_without_its_password(
    wrong: str, said: str, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_DSN", wrong)
    with pytest.raises(DataError, match=said) as told:
        load_live("Works/line-a/plant", PLANT, FROM_AT, TO_AT, options)
    assert "hunter2" not in str(told.value)
    assert "\n" not in str(told.value)


def test_node_itself_has_no_device() -> None:
    assert Place.parse("timescale:Works/line-a") == Place("Works", "line-a", "")
    assert str(Place.parse("Works/line-a/plant")) == "Works/line-a/plant"


@pytest.mark.usefixtures("connected")
def test_what_is_kept_is_loaded_as_it_was(options: Options) -> None:
    dataset = load_live("Works/line-a/plant", PLANT, FROM_AT, TO_AT, options)
    name = keep(dataset, options)
    again = load(name, options)
    assert again.name == name
    assert name.startswith("kept:timescale-Works-line-a-plant-")
    assert (again.title, again.origin, dict(again.units)) == (dataset.title, dataset.origin, dict(dataset.units))
    for before, after in zip(dataset.tables, again.tables, strict=True):
        assert (before.key, before.incidents) == (after.key, after.incidents)
        np.testing.assert_array_equal(before.steps.values, after.steps.values)
        np.testing.assert_array_equal(before.steps.at_ms, after.steps.at_ms)
    assert keep(dataset, options) == name
    assert describe(again).about.title == "Readings of Works/line-a/plant"
    assert [each.name for each in describe_all(options, [name])] == [name]


def test_incidents_are_kept(options: Options) -> None:
    steps = Steps(np.array([0, 1000]), np.array([[1.0], [np.nan]]), np.array([[False], [True]]))
    incidents = (Incident("leak", 0, 1000, "tank1"), Incident("stuck_sensor", 500, 2000))
    table = Table("t", steps, incidents)
    again = load(keep(Dataset("d", "t", "o", "l", 1.0, {"a": "m"}, (table,)), options), options)
    assert again.tables[0].incidents == incidents
    assert again.tables[0].steps.is_spoilt.tolist() == [[False], [True]]


@pytest.mark.parametrize("name", ["kept:", "kept:../../etc/passwd", "kept:a/b", "kept:.hidden", "kept:nothing"])
def test_name_that_was_not_kept_is_refused(name: str, options: Options) -> None:
    with pytest.raises(DataError, match="data set 'kept:"):
        load(name, options)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{", np.zeros((2, 1))),
        ("[]", np.zeros((2, 1))),
        (KEPT, None),
        (KEPT.replace("[]", '[{"key": "k", "incidents": []}]'), np.zeros((2, 3))),
    ],
)
def test_kept_file_that_was_changed_is_refused(text: str, values: np.ndarray | None, options: Options) -> None:
    arrays = {"0-at_ms": np.array([0, 1000]), "0-is_spoilt": np.zeros((2, 1), bool)}
    if values is not None:
        arrays["0-values"] = values
    write_arrays(options.data / "kept" / "x.npz", arrays, {"dataset.json": text})
    with pytest.raises(DataError):
        load("kept:x", options)
