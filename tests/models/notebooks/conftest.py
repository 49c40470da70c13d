"""Notebooks run in a fresh kernel; and a database as a running system leaves it: small, and always the same."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import jupytext
import numpy as np
import psycopg2
import pytest
from nbclient import NotebookClient
from psycopg2.extensions import make_dsn

from db import migrate, roles
from models.recipes.tank_level import TANK_LEVEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from psycopg2.extensions import cursor

    Floats: TypeAlias = NDArray[np.float64]
    Rows: TypeAlias = Sequence[tuple[Any, ...]]

ROOT: Final = Path(__file__).parents[3]
PLACE: Final = ROOT / "models" / "notebooks"
PASSWORD: Final = "may only read, and shows nowhere"

NOW: Final = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
SPAN_S: Final = 90 * 60
HOLE_S: Final = range(3000, 3240)
"""Of the plant nothing came then, and its node says so."""
FAULT_S: Final = range(4200, 4500)
LINE, EXCHANGE = ("demo", "edge-1", "line-a"), ("demo", "edge-2", "exchange")
LEVELS: Final = (0.1, 0.5, 0.9)


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Any]]:
    """Runs a notebook by its name; the outputs of its cells."""
    monkeypatch.setenv("PYTHONPATH", os.fspath(ROOT))

    def run(name: str) -> list[Any]:
        notebook = jupytext.read(PLACE / f"{name}.py")
        assert notebook.metadata.kernelspec.name == "python3"
        place = {"metadata": {"path": os.fspath(PLACE)}}
        NotebookClient(notebook, kernel_name="python3", timeout=120, resources=place).execute()
        return [each for cell in notebook.cells if cell.cell_type == "code" for each in cell.outputs]

    return run


@pytest.fixture
def reader(database: str) -> str:
    """The reader's DSN of a migrated database in which two nodes have only just been heard of."""
    migrate.migrate(database, 10)
    roles.allow_login(database, "headwater_reader", PASSWORD, 10)
    with closing(psycopg2.connect(database)) as opened, opened, opened.cursor() as cursor:
        heard = [("demo", node, NOW - dt.timedelta(days=2), NOW, True) for node in ("edge-1", "edge-2")]
        _copy(cursor, "node (group_id, node_id, first_seen_at, last_seen_at, online)", heard)
    return make_dsn(database, user="headwater_reader", password=PASSWORD)


@pytest.fixture
def filled(database: str, reader: str) -> str:
    """The reader's DSN when the hours are in it: readings of a plant and an exchange, and what was made of them."""
    random = np.random.default_rng(11)
    with closing(psycopg2.connect(database)) as opened, opened, opened.cursor() as cursor:
        plant, (price_id, price) = _plant(cursor, random), _exchange(cursor, random)
        cursor.execute(
            "insert into rollup_pending (minute, first_series, last_series) "
            "select time_bucket('1 minute', sampled_at), min(series_id), max(series_id) from reading group by 1"
        )
        cursor.execute("select * from roll_up()")
        for place, noise in (("cloud", 0.002), ("edge", 0.003)):
            tank = ("tank-level", place, "level", "")
            _forecasts(cursor, (LINE, tank), plant["tank2/level"], (10, (5, 15, 30, 60)), noise)
        # It knows no more than the price that it saw: what the notebook must say of it.
        stock = ("stock-minute", "cloud", "price", "AAPL")
        _forecasts(cursor, (EXCHANGE, stock), (price_id, price), (60, (60, 300, 1200)), None)
        _incidents(cursor, plant)
        _losses(cursor)
    return reader


def at(second: float) -> dt.datetime:
    """So many seconds into the hours."""
    return NOW - dt.timedelta(seconds=SPAN_S - float(second))


def _series(cursor: cursor, device: tuple[str, str, str], metric: str, unit: str | None) -> int:
    cursor.execute(
        "insert into series (group_id, node_id, device_id, metric, kind, datatype, unit) "
        "values (%s, %s, %s, %s, 'numeric', 10, %s) returning series_id",
        (*device, metric, unit),
    )
    (series_id,) = cursor.fetchone() or (0,)
    return int(series_id)


def _copy(cursor: cursor, table: str, rows: Rows) -> None:
    """Rows whose first columns are the table's first ones or, where `table` has a list in it, these."""
    text = "".join("\t".join("\\N" if each is None else str(each) for each in row) + "\n" for row in rows)
    cursor.copy_expert(f"copy {table} from stdin", io.StringIO(text))


def _readings(cursor: cursor, series_id: int, seconds: Sequence[float], values: Floats) -> None:
    _copy(
        cursor,
        "reading",
        [(series_id, at(second), f"{value:.5f}", 192) for second, value in zip(seconds, values, strict=True)],
    )


def _plant(cursor: cursor, random: np.random.Generator) -> dict[str, tuple[int, Floats]]:
    """What the tank's recipe wants, each second; the tank itself for two days before, each ten minutes, as well."""
    second = np.arange(SPAN_S)
    kept = [each for each in second.tolist() if each not in HOLE_S]
    wave = {name: np.sin(second / (500 + 90 * place) + place) for place, name in enumerate(TANK_LEVEL.view.sources)}
    made: dict[str, tuple[int, Floats]] = {}
    for each in TANK_LEVEL.view.inputs:
        values = 3 + wave[each.source] + random.normal(0, 0.01, SPAN_S)
        if each.source == "intake/flow":
            values[FAULT_S.start : FAULT_S.stop] += 1.5
        made[each.source] = _series(cursor, LINE, each.source, each.unit), values
        _readings(cursor, made[each.source][0], kept, values[kept])
    earlier = np.arange(-2 * 86_400, 0, 600)
    _readings(cursor, made["tank2/level"][0], earlier.tolist(), 3 + np.sin(earlier / 14_000))
    return made


def _exchange(cursor: cursor, random: np.random.Generator) -> tuple[int, Floats]:
    """A price that wanders, its bars and its trend; returns its series and the price of each second."""
    price = 180 + np.cumsum(random.normal(0, 0.012, SPAN_S))
    series_id = _series(cursor, EXCHANGE, "AAPL/price", "USD")
    _readings(cursor, series_id, range(0, SPAN_S, 5), price[::5])
    quotes = price.reshape(-1, 60)
    volume = random.integers(200, 2000, len(quotes))
    _copy(
        cursor,
        "bar",
        [
            (
                series_id,
                60,
                at(60 * minute),
                *(f"{x:.4f}" for x in (q[0], q.max(), q.min(), q[-1])),
                volume[minute],
                12,
                True,
            )
            for minute, q in enumerate(quotes)
        ],
    )
    level = np.convolve(price, np.full(240, 1 / 240), "valid")[::10]
    slope = np.gradient(level, 10.0)
    regime = np.select([slope > 0.0015, slope < -0.0015], ["up", "down"], "flat")
    rows = zip(level.tolist(), slope.tolist(), regime.tolist(), strict=True)
    _copy(cursor, "trend", [(series_id, at(240 + 10 * n), x, s, 0.0005, 0.05, r) for n, (x, s, r) in enumerate(rows)])
    return series_id, price


def _forecasts(
    cursor: cursor,
    who: tuple[tuple[str, str, str], tuple[str, str, str, str]],
    of: tuple[int, Floats],
    when: tuple[int, tuple[int, ...]],
    noise: float | None,
) -> None:
    """Forecasts and their scores: what came but for noise, or without any the last value again."""
    device, (model, place, target, subject) = who
    series_id, value = of
    every, horizons = when
    cursor.execute(
        "insert into forecaster (group_id, node_id, device_id, subject, model, version, place, target, series_id) "
        "values (%s, %s, %s, %s, %s, '20260301.1200-abcdef01', %s, %s, %s) returning forecaster_id",
        (*device, subject, model, place, target, series_id),
    )
    (forecaster_id,) = cursor.fetchone() or (0,)
    random = np.random.default_rng(horizons[0] + len(place))
    told, scored = [], []
    for made in range(60, SPAN_S, every):
        for horizon in horizons:
            last, due = value[made - 1], made + horizon
            spread = (noise * horizon**0.5 + 0.005) if noise else 0.012 * horizon**0.5
            came = value[due] if due < SPAN_S else last
            middle = came + random.normal(0, spread) if noise else last + random.normal(0, spread / 20)
            fan = [middle - 1.28 * spread, middle, middle + 1.28 * spread]
            levels, quantiles = ("{" + ",".join(map(str, each)) + "}" for each in (LEVELS, fan))
            told.append((forecaster_id, at(made), horizon, at(due), *fan, levels, quantiles))
            if due < SPAN_S:
                missed = came - middle, came - last
                scored.append((forecaster_id, at(made), horizon, at(due), came, 0.1, fan[0] <= came <= fan[2], *missed))
    columns = "forecaster_id, made_at, horizon_s, target_at"
    _copy(cursor, f"forecast ({columns}, p10, p50, p90, levels, quantiles)", told)
    _copy(cursor, f"forecast_score ({columns}, actual, pinball, is_covered, error, naive_error)", scored)


def _incidents(cursor: cursor, plant: dict[str, tuple[int, Floats]]) -> None:
    """One that a series shows by itself, and one that lasts, of the device as a whole."""

    def reading(metric: str, second: int, expected: float | None, score: float) -> dict[str, Any]:
        value = round(float(plant[metric][1][second]), 4)
        return {"metric": metric, "at": at(second).isoformat(), "value": value, "expected": expected, "score": score}

    robust = [reading("intake/flow", each, 3.5, 9.0 + each % 7) for each in range(FAULT_S.start, FAULT_S.stop, 30)]
    whole = [reading(name, SPAN_S - 60, None, 3.0 - n) for n, name in enumerate(("pump1/flow", "tank1/level"))]
    for metric, detector, began, ended, score, threshold, evidence in (
        ("intake/flow", "robust", FAULT_S.start, at(FAULT_S.stop), 15.0, 5.0, robust),
        ("", "plant-anomaly", SPAN_S - 120, None, 4.0, 3.2, whole),
    ):
        cursor.execute(
            "insert into anomaly values (%s, %s, %s, %s, %s, 'cloud', %s, %s, %s, %s, %s, null, null, %s)",
            (*LINE, metric, detector, at(began), ended, at(began + 60), score, threshold, json.dumps(evidence)),
        )


def _losses(cursor: cursor) -> None:
    """The hole, as its node declares it, and batches of the exchange's node that are still to come."""
    for node, undelivered in (("edge-1", 0), ("edge-2", 7)):
        cursor.execute(
            "insert into node_epoch (group_id, node_id, epoch, newest, newest_ms, heard_at, undelivered) "
            "values ('demo', %s, 1, 5400, %s, %s, %s)",
            (node, round(NOW.timestamp() * 1000), NOW, undelivered),
        )
    cursor.execute(
        "insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at) "
        "values (%s, %s, %s, %s, %s, 'spool full', %s)",
        (*LINE, at(HOLE_S.start), at(HOLE_S.stop), NOW),
    )
    cursor.execute(
        "insert into gap (group_id, node_id, device_id, from_at, to_at, reason, declared_at, kind, epoch, first_batch, "
        "last_batch, batches, state) values ('demo', 'edge-2', '', %s, %s, 'did not come', %s, 'undelivered', 1, 900, "
        "906, 7, 'open')",
        (at(900), at(1200), NOW),
    )
