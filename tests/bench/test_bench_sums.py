"""What the benchmarks work out of what they measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.faults.histories import Fault, History
from bench.faults.judged import Judged
from bench.faults.methods import Alarm
from bench.fleet import Fleet
from bench.scale.sizing import Bytes, Prices, needs, prices
from bench.scale.soak import slope
from bench.scale.sweep import Measured, Point
from bench.scale.system import OURS, PARTS, Load

HOUR_MS = 3_600_000


def measured(readings: int, a_message: int, cpu_s: float) -> Measured:
    point = Point("series", 10, Load(Fleet(10, 10, a_message), readings / 60))
    return Measured(point, 60.0, readings, dict.fromkeys(PARTS, cpu_s), dict.fromkeys(PARTS, 1.0), 100, 10)


def test_prices_are_those_that_made_the_points() -> None:
    price = Prices(idle_share=0.05, us_a_message=200, us_a_reading=3)
    loads = [(60_000, 1), (60_000, 10), (240_000, 10), (720_000, 100)]
    points = [measured(n, size, 60 * price.cores(n / size / 60, n / 60)) for n, size in loads]
    for found in prices(points).values():
        assert found.idle_share == pytest.approx(0.05)
        assert found.us_a_message == pytest.approx(200)
        assert found.us_a_reading == pytest.approx(3)


def test_a_reading_costs_what_our_parts_took() -> None:
    assert measured(1_000_000, 10, 2.0).ours_per_million == pytest.approx(2 * len(OURS))


def test_what_nodes_need_grows_with_them() -> None:
    small, middle, large = needs(dict.fromkeys(PARTS, Prices(0.01, 100, 5)), Bytes(100, 10), readings=20, interval_s=1)
    assert middle.cores["bridge"] == pytest.approx(0.01 + 1000 * 100e-6 + 20_000 * 5e-6)
    assert (small.bridges, middle.bridges, large.bridges) == (1, 1, 34)
    assert middle.table_gb == pytest.approx(172.8)


@pytest.mark.parametrize(("an_hour", "flat"), [(0.0, True), (3.0, True), (60.0, False)])
def test_growth_is_told_from_noise(an_hour: float, flat: bool) -> None:  # noqa: FBT001 - a parameter of the test
    hours = np.arange(-0.25, 0.5, 5 / 3600)
    mib = 500 + an_hour * hours + np.random.default_rng(1).normal(size=len(hours))
    mib[hours < 0] -= 200  # while it warms up
    found = slope(hours, mib)
    assert found.flat == flat
    assert abs(found.mib_per_h - an_hour) < 3 * found.error


def test_an_alarm_is_right_false_or_neither() -> None:
    at = np.arange(0, 10 * HOUR_MS, 1000)
    healthy = History(at, np.zeros((len(at), 1)), ("pump1/flow",), ())
    fault = Fault("leak", "pump1", 5 * HOUR_MS, 6 * HOUR_MS)
    faulty = replace(healthy, faults=(fault,))
    right, late, false = (Alarm("pump1/flow", round(hour * HOUR_MS)) for hour in (5.5, 6.05, 8))
    judged = Judged.of([faulty], [[right, late, false]], [healthy], [[Alarm("pump1/flow", HOUR_MS)]], 4)
    assert judged.found == ([right],)
    assert (judged.false, judged.false_a_day) == (1, 0)
    recall, _, bearing, leak, stuck, own, precision, delay_s, *_ = judged.cells()
    assert (recall, bearing, leak, stuck, own, precision, delay_s) == ("1.00", "-", "1.00", "-", "1.00", "0.50", "1800")
