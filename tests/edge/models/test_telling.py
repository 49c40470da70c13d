"""The readings that a model's results become."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.datatypes import DataType
from contract.manifest import ANOMALY, SCORE, VERSION, Manifest, parse_manifest
from contract.sparkplug import Quality
from edge.lane import Lane
from edge.models.telling import STATE, Teller, metrics_of

MODELS = Path(__file__).parents[3] / "bench" / "edge" / "models"


def manifest(name: str) -> Manifest:
    return parse_manifest((MODELS / name / "manifest.json").read_bytes(), name)


def test_a_forecast_is_told_with_its_version_and_units() -> None:
    infos = {info.name: info for info in metrics_of(manifest("tank-forecast"))}
    names = [f"level/{h}s/p{q}" for h in (5, 15, 30) for q in (10, 50, 90)]
    assert list(infos) == [VERSION, STATE, *names]
    assert {infos[name].unit for name in names} == {"m"}
    readings = Teller(manifest("tank-forecast")).result([float(n) for n in range(9)], 7000)
    assert {reading.metric: reading.value for reading in readings} == {
        VERSION: "1.0.0",
        **{name: float(n) for n, name in enumerate(names)},
    }
    assert {reading.sampled_at_ms for reading in readings} == {7000}


def test_an_anomaly_is_an_alarm_told_when_it_changes_and_each_minute() -> None:
    model = manifest("pump-anomaly")
    infos = {info.name: info for info in metrics_of(model)}
    assert (infos[ANOMALY].lane, infos[ANOMALY].datatype) == (Lane.ALARM, DataType.BOOLEAN)
    assert infos["contribution/pump1/vibration"].lane is Lane.LIVE
    teller = Teller(model)
    high, low = 2 * model.output.threshold, 0.1 * model.output.threshold  # type: ignore[union-attr]  # it is an anomaly's
    told = [
        [reading.value for reading in teller.result([score, *[0.125] * 8], at_ms) if reading.metric == ANOMALY]
        for score, at_ms in ((low, 0), (low, 1000), (high, 2000), (high, 3000), (high, 62_000), (low, 63_000))
    ]
    assert told == [[False], [], [True], [], [True], [False]]


def test_a_model_that_takes_over_goes_on_with_the_alarm() -> None:
    model = manifest("pump-anomaly")
    old = Teller(model)
    old.result([2 * model.output.threshold, *[0.1] * 8], 0)  # type: ignore[union-attr]  # it is an anomaly's
    new = Teller(model, old)
    assert new.is_alarmed
    between = 0.9 * model.output.threshold  # type: ignore[union-attr]  # as above
    assert Teller(model).result([between, *[0.1] * 8], 1)[-1].value is False
    assert new.result([between, *[0.1] * 8], 1)[-1].value is True


def test_what_has_no_result_any_more_is_told_without_a_value() -> None:
    readings = Teller(manifest("pump-anomaly")).no_result(5)
    assert {reading.metric for reading in readings} >= {SCORE, ANOMALY}
    assert {(reading.value, reading.quality) for reading in readings} == {(None, Quality.BAD)}


@pytest.mark.parametrize("name", ["tank-forecast", "pump-anomaly"])
def test_a_result_of_another_length_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="argument"):
        Teller(manifest(name)).result([1.0], 0)
