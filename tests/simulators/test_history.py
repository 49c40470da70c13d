"""History: the same for the same arguments, what a client would have read, and labels that fit it to the step."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from simulators.__main__ import main
from simulators.exchange.market import Clock, Listed, Market
from simulators.history import exchange_history, plant_history, weather_history
from simulators.history.plant import ANALOGUE, as_read
from simulators.history.recorded import BEGIN_MS
from simulators.plant.points import to_raw, to_value
from simulators.plant.process import INTAKE_M3_H
from simulators.weather.climate import Place
from simulators.weather.variables import values_at

if TYPE_CHECKING:
    from pathlib import Path

    from simulators.history import Incident, Recorded

ARRAYS = {
    "format",
    "at_ms",
    "values",
    "names",
    "units",
    "incident_kind",
    "incident_what",
    "incident_start_ms",
    "incident_end_ms",
}


@pytest.fixture(scope="module")
def faulty() -> Recorded:
    """Two hours with faults."""
    return plant_history(5, 7200, with_faults=True)


def column(recorded: Recorded, name: str) -> np.ndarray:
    return recorded.values[:, list(recorded.units).index(name)]


def rows(incident: Incident) -> tuple[int, int]:
    """Its first row and the one after its last, at steps of a second."""
    return (incident.start_ms - BEGIN_MS) // 1000, (incident.end_ms - BEGIN_MS) // 1000


def test_same_seed_gives_the_same_and_another_does_not() -> None:
    first, again, other = (plant_history(seed, 50, with_faults=True) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values, again.values)
    assert first.incidents == again.incidents
    assert not np.array_equal(first.values, other.values)


def test_longer_history_begins_as_a_shorter_one() -> None:
    np.testing.assert_array_equal(plant_history(1, 100).values[:40], plant_history(1, 40).values)


def test_steps_are_evenly_spaced() -> None:
    np.testing.assert_array_equal(plant_history(1, 4, 0.5).at_ms - BEGIN_MS, [0, 500, 1000, 1500])
    np.testing.assert_array_equal(exchange_history(1, 3).at_ms - BEGIN_MS, [0, 60_000, 120_000])
    np.testing.assert_array_equal(weather_history(1, 3).at_ms - BEGIN_MS, [0, 3_600_000, 7_200_000])


def test_values_are_what_a_client_makes_of_the_registers() -> None:
    rng = np.random.default_rng(3)
    shown = rng.choice([1.0, 100.0, 1e6], (200, len(ANALOGUE))) * rng.standard_normal((200, len(ANALOGUE)))
    read = [[to_value(p, to_raw(p, float(q))) for p, q in zip(ANALOGUE, row, strict=True)] for row in shown]
    np.testing.assert_array_equal(as_read(ANALOGUE, shown), read)


def test_all_analogue_readings_are_told_and_no_counter() -> None:
    units = plant_history(1, 1).units
    assert {"tank1/level", "pump2/vibration", "quality/chlorine", "mains/power", "ph/setpoint"} <= units.keys()
    assert units["pump1/bearing_temperature"] == "degC"
    assert not units.keys() & {"pump1/run_hours", "mains/net_energy", "intake/alarm_word", "pump1/running"}


def test_operator_moves_set_points(faulty: Recorded) -> None:
    moves = [np.count_nonzero(np.diff(column(faulty, f"tank{n}/level_setpoint"))) for n in (1, 2)]
    assert sum(moves) > 2
    # And the plant follows.
    behind = np.abs(column(faulty, "tank2/level") - column(faulty, "tank2/level_setpoint"))
    assert np.median(behind) < 0.3


def test_shorter_day_is_seen_in_the_demand() -> None:
    outdoors = plant_history(1, 600, day_s=300).values[
        :, [p.name for p in ANALOGUE].index("building/outdoor_temperature")
    ]
    np.testing.assert_allclose(outdoors[:300], outdoors[300:], atol=0.11)
    assert np.ptp(outdoors) == pytest.approx(12, abs=0.2)


def test_every_kind_comes_and_none_meets_another(faulty: Recorded) -> None:
    assert {each.kind for each in faulty.incidents} == {"leak", "bearing_wear", "stuck_sensor"}
    assert len(faulty.incidents) >= 6
    for before, after in pairwise(faulty.incidents):
        assert after.start_ms - before.end_ms >= 399_000
    assert faulty.incidents[-1].end_ms <= faulty.at_ms[-1] + 1000


def test_stuck_sensor_is_still_from_the_first_row_to_the_last(faulty: Recorded) -> None:
    stuck = [each for each in faulty.incidents if each.kind == "stuck_sensor"]
    assert stuck
    for each in stuck:
        shown, (start, end) = column(faulty, each.what), rows(each)
        assert np.ptp(shown[start:end]) == 0
        assert np.ptp(shown[start - 20 : start]) > 0
        assert np.ptp(shown[end : end + 20]) > 0


def test_leak_is_in_the_mass_balance_of_the_rows_that_it_is_said_to_be_in(faulty: Recorded) -> None:
    inflow = column(faulty, "intake/valve_position") / 100 * INTAKE_M3_H
    first, second = column(faulty, "pump1/flow"), column(faulty, "pump2/flow")
    for tank, net in ((1, inflow - first), (2, first - second)):
        # Litres a second that came to the tank by no pipe.
        missing = np.diff(column(faulty, f"tank{tank}/volume")) - net[:-1] / 3.6
        leaks = [rows(each) for each in faulty.incidents if each.what == f"tank{tank}" and each.kind == "leak"]
        is_leaking = np.zeros(len(missing) + 1, bool)
        for start, end in leaks:
            is_leaking[start:end] = True
        np.testing.assert_array_equal(missing < -5, is_leaking[1:])
        assert leaks


def test_worn_bearing_shakes_until_it_is_a_new_one(faulty: Recorded) -> None:
    worn = [each for each in faulty.incidents if each.kind == "bearing_wear"]
    assert worn
    for each in worn:
        vibration, (start, end) = column(faulty, f"{each.what}/vibration"), rows(each)
        load = column(faulty, f"{each.what}/speed") / 1480
        excess = vibration - 0.1 - 1.6 * load
        assert np.abs(excess[start - 60 : start]).max() < 0.25
        assert excess[end - 5 : end].min() > 0.25
        assert np.abs(excess[end : end + 60]).max() < 0.25


def test_bars_are_those_of_the_quotes() -> None:
    recorded = exchange_history(9, 500, symbols=("AAPL", "IBM"))
    market = Market(9, [Listed(symbol="AAPL"), Listed(symbol="IBM")], Clock(session_s=23_400, tick_s=1))
    assert list(recorded.units) == ["AAPL/price", "AAPL/high", "AAPL/low", "IBM/price", "IBM/high", "IBM/low"]
    for row in (0, 299, 300, 499):
        begin_s = int(recorded.at_ms[row]) // 1000
        for place, symbol in enumerate(("AAPL", "IBM")):
            quotes = [market.quote(symbol, begin_s + second) for second in range(60)]
            prices = [quote.price for quote in quotes if quote is not None]
            expected = [prices[-1], max(prices), min(prices)]
            assert recorded.values[row, 3 * place : 3 * place + 3].tolist() == expected


def test_weather_is_that_of_the_service() -> None:
    recorded = weather_history(4, 30)
    told = values_at(Place(4, 52.5, 13.4375, 38.0), recorded.units, float(recorded.at_ms[29]) / 1000, 3600)
    assert recorded.values[29].tolist() == list(told.values())
    assert recorded.units["wind_speed_10m"] == "km/h"


@pytest.mark.parametrize("what", ["plant", "exchange", "weather"])
def test_command_writes_plain_arrays(what: str, tmp_path: Path) -> None:
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for file in files:
        assert main(["history", what, "--seed", "3", "--steps", "20", "--out", str(file)]) == 0
    with np.load(files[0], allow_pickle=False) as arrays:
        assert set(arrays) == ARRAYS
        assert arrays["values"].shape == (20, len(arrays["names"]))
        assert len(arrays["units"]) == len(arrays["names"])
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == files


def test_command_labels_faults(tmp_path: Path) -> None:
    out = tmp_path / "faults.npz"
    assert main(["history", "plant", "--steps", "300", "--step", "10", "--faults", "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as arrays:
        assert len(arrays["incident_kind"]) == len(arrays["incident_end_ms"]) > 1
        assert (arrays["incident_start_ms"] < arrays["incident_end_ms"]).all()
        assert "" not in arrays["incident_what"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plant", "--steps", "0"], 2, "--steps: found 0: allowed are 1 to"),
        (["plant", "--steps", "9", "--seed", "-1"], 2, "--seed: found -1"),
        (["plant", "--steps", "9", "--step", "nan"], 2, "--step: found nan"),
        (["plant", "--steps", "9", "--step", "11"], 2, "--step: found 11: allowed are 0.01 to 10 seconds"),
        (["plant", "--steps", "9", "--day", "0"], 2, "--day: found 0"),
        (["weather", "--steps", "9", "--step", "0.5"], 2, "--step: found 0.5: allowed are whole seconds"),
        (["exchange", "--steps", "9", "--step", "7"], 2, "--step: found 7"),
        (["exchange", "--steps", "9", "--faults"], 2, "exchange has none"),
        (["plant", "--steps", "9", "--out", "/nowhere/at/all.npz"], 1, "/nowhere/at/all.npz: cannot be written"),
    ],
)
def test_command_refuses_in_a_line(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", "--out", str(tmp_path / "x.npz"), *arguments]) == code
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
