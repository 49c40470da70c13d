from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contract.manifest import Feature, ModelInput, Target, View, Window
from models.quantization.judging import AnomalyJudge, ForecastJudge, detection
from models.quantization.measuring import Run
from models.quantization.results import Error, Judged, Quantization, Tried
from models.quantization.showing import markdown
from models.recipe import ForecastRecipe
from models.samples import Samples
from models.scaler import Scaler

COUNT = 400
RANDOM = np.random.default_rng(4)
VIEW = View(
    inputs=(ModelInput(name="price", unit="EUR"), ModelInput(name="level", unit="m")),
    window=Window(length=3, step_s=1),
    features=(Feature(name="price", of=("price",)),),
)
RECIPE = ForecastRecipe(
    name="r",
    title="",
    dataset="",
    view=VIEW,
    targets=(
        Target(name="price", unit="EUR", of=("price",), relative="log_ratio"),
        Target(name="level", unit="m", of=("level",), relative="difference"),
    ),
    horizons=(1,),
    quantiles=(0.25, 0.75),
    season=1,
)
SCALER = Scaler(np.array([0.0]), np.array([2.0]), np.array([0.0, 1.0]), np.array([0.01, 4.0]))


@pytest.fixture
def judge() -> ForecastJudge:
    """What float told is a step too low for the first target, and right for the second."""
    y = RANDOM.normal(size=(COUNT, 2, 1)).astype(np.float32) * np.array([0.01, 4])[:, None] + np.array([0, 1])[:, None]
    held = Samples(
        x=np.ones((COUNT, 3, 1), np.float32),
        y=y.astype(np.float32),
        last=np.column_stack([np.full(COUNT, 100.0), np.full(COUNT, 7.0)]),
        end_ms=np.arange(COUNT),
        table=np.zeros(COUNT, np.int32),
    )
    told = np.stack([held.y, held.y], axis=-1) - np.array([0.01, 2.0], np.float32)[:, None, None]
    return ForecastJudge(RECIPE, SCALER, held, told.astype(np.float32))


def scaled(judge: ForecastJudge) -> np.ndarray:
    """What a net without fault gives."""
    mean, scale = SCALER.target_mean[:, None, None], SCALER.target_scale[:, None, None]
    return ((judge.told - mean) / scale).reshape(COUNT, -1).astype(np.float32)


def test_what_is_the_same_is_no_worse(judge: ForecastJudge) -> None:
    found = judge.judge(scaled(judge))
    assert found.worse == pytest.approx(0, abs=1e-4)
    assert found.value == pytest.approx(judge.reference, rel=1e-4)
    # A whole scale and half of one too low, at quantiles whose mean is a half.
    assert judge.reference == pytest.approx((0.5 * 1 + 0.5 * 0.5) / 2, rel=1e-4)
    assert [error.greatest for error in found.errors] == pytest.approx([0, 0], abs=1e-3)


def test_the_target_that_suffers_most_counts(judge: ForecastJudge) -> None:
    outputs = scaled(judge).reshape(COUNT, 2, 2)
    outputs[:, 1] -= 0.05
    found = judge.judge(outputs.reshape(COUNT, 4))
    assert found.worse == pytest.approx(0.1, rel=1e-3)
    assert found.value == pytest.approx(judge.reference * 13 / 12, rel=0.05)
    price, level = found.errors
    assert (price.of, price.unit, level.of, level.unit) == ("price", "EUR", "level", "m")
    assert (level.greatest, level.mean) == pytest.approx((0.2, 0.2), rel=1e-3)


def test_errors_are_in_the_targets_unit(judge: ForecastJudge) -> None:
    outputs = scaled(judge).reshape(COUNT, 2, 2)
    outputs[0, 0] += 1
    found = judge.judge(outputs.reshape(COUNT, 4))
    # A hundredth more of a price about 100.
    assert found.errors[0].greatest == pytest.approx(1, abs=0.1)
    assert found.errors[0].mean == pytest.approx(found.errors[0].greatest / COUNT, rel=1e-2)


def test_quantiles_are_put_in_order_before_they_are_judged(judge: ForecastJudge) -> None:
    outputs = scaled(judge).reshape(COUNT, 2, 2)[:, :, ::-1]
    assert judge.judge(outputs.reshape(COUNT, 4)).worse == pytest.approx(0, abs=1e-4)


def test_an_anomaly_that_is_found_less_well_is_worse() -> None:
    windows = RANDOM.normal(size=(COUNT, 4, 2)).astype(np.float32)
    is_incident = np.arange(COUNT) % 4 == 0
    away = np.where(is_incident, 2.0, 1.0).astype(np.float32)
    judge = AnomalyJudge(windows, away**2, is_incident, threshold=2.0)
    same = judge.judge((windows + away[:, None, None]).reshape(COUNT, -1))
    assert judge.reference == 1
    assert same.worse == pytest.approx(0, abs=1e-6)
    assert same.errors == (Error("score", None, pytest.approx(0, abs=1e-5), pytest.approx(0, abs=1e-5)),)
    # All in the same order, but none above the threshold.
    low = judge.judge((windows + 0.5 * away[:, None, None]).reshape(COUNT, -1))
    assert (low.value, low.worse) == (1, 1)
    # Half of the incidents look as if nothing were.
    missed = np.where(np.arange(COUNT) % 8 == 0, 1.0, away)
    half = judge.judge((windows + missed[:, None, None]).reshape(COUNT, -1))
    assert half.value < 0.75
    assert half.worse == pytest.approx(1 / 3, abs=0.1)


def test_a_threshold_that_float_never_reaches_judges_nothing() -> None:
    scores, is_incident = np.arange(9, dtype=np.float32), np.arange(9) > 6
    assert detection(scores, scores, is_incident, threshold=100.0).worse == 0
    assert detection(scores[::-1], scores, is_incident, threshold=100.0).worse > 0.5


def test_the_tables_for_the_documentation() -> None:
    judged = Judged(1.01, 0.012, (Error("level", "m", 0.0123, 0.001), Error("ratio", None, 2, 1)))
    runs = (Run("tflite-runtime 2.14.0", 12.4, 20.6, 2048), Run("ai-edge-litert 2.3.0", fault="does not take it"))
    good = Tried("float32", wide=False, size_bytes=2048, runs=runs, judged=judged)
    bad = replace(good, form="int8", wide=True, left_out="1.2% worse than float, allowed is 1%")
    refused = Tried("dynamic", wide=False, size_bytes=0, runs=(), judged=None, left_out="cannot be converted")
    told = markdown([Quantization("tank", "pinball", 1.0, 500, (good, bad, refused))])
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {8}
    assert rows[2][:4] == ["| float32", "2.0", "12 (21) *", "fails"]
    assert rows[2][5:] == ["level 0.012 (0.001) m<br>ratio 2 (1)", "+1.20 %", "yes |"]
    assert rows[3][0] == "| int8, last layer float32"
    assert rows[3][2] == "12 (21)"
    assert rows[4][-1] == "no: cannot be converted |"
    assert "500 windows that were not learnt from, one thread of " in told
