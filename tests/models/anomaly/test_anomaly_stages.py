"""Training and evaluation as stages, on data that is made here."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from contract.card import Skill
from contract.manifest import Feature
from models.anomaly.evaluation import evaluate_anomaly
from models.anomaly.parts import past_of
from models.anomaly.parts import test_of as windows_to_judge
from models.anomaly.stage import stated_rate, train_anomaly
from models.autoencoder import Autoencoder
from models.data.dataset import Incident
from models.errors import DataError
from models.evaluation.document import headline, read_document, verdict
from models.options import Options
from models.samples import window_samples

if TYPE_CHECKING:
    from pathlib import Path

    from models.data.dataset import Dataset
    from models.recipe import AnomalyRecipe


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, normal: Dataset, faulty: Dataset) -> Options:
    known = {"normal": normal, "faulty": faulty}
    monkeypatch.setattr("models.anomaly.parts.load", lambda name, _: known[name])
    # In this process: another one would import TensorFlow anew.
    monkeypatch.setattr("models.anomaly.scoring.run_all", lambda jobs, *_: [job.run(lambda *_: None) for job in jobs])
    return Options(console=Console(file=io.StringIO(), width=300), work=tmp_path, jobs=1)


def text_of(options: Options) -> str:
    assert isinstance(options.console.file, io.StringIO)
    return options.console.file.getvalue()


def test_parts_follow_one_another_with_gaps(options: Options, recipe: AnomalyRecipe) -> None:
    past = past_of(recipe, options)
    for earlier, later in ((past.train, past.valid), (past.valid, past.calibration)):
        assert later.end_ms.min() - earlier.end_ms.max() >= 8000
    assert len(past.calibration) == pytest.approx(0.35 * 2 * 2993, rel=0.01)
    assert set((past.train.end_ms // 1000 % recipe.stride).tolist()) == {0}


def test_of_one_dataset_the_newest_part_is_judged(options: Options, recipe: AnomalyRecipe, faulty: Dataset) -> None:
    alone = replace(recipe, dataset="faulty", judged_on=None)
    past, test = past_of(alone, options), windows_to_judge(alone, options)
    assert test.samples.end_ms.min() - past.calibration.end_ms.max() >= 8000
    assert len(test.samples) == pytest.approx(0.4 * 2993, rel=0.01)
    # What was known to be wrong is not learnt from, nor are 16 s after it.
    ends = np.concatenate([part.end_ms for part in (past.train, past.valid, past.calibration)])
    for each in faulty.tables[0].incidents:
        assert not ((ends > each.start_ms) & (ends <= each.end_ms + 16_000)).any()


def test_without_incidents_nothing_is_judged(options: Options, recipe: AnomalyRecipe) -> None:
    with pytest.raises(DataError, match="0 incidents to judge on"):
        windows_to_judge(replace(recipe, judged_on="normal"), options)


def test_longer_steps_are_made_of_the_datasets(normal: Dataset, recipe: AnomalyRecipe) -> None:
    window = recipe.view.window.model_copy(update={"step_s": 5.0, "length": 2})
    inputs = tuple(
        each.model_copy(update={"resample": how})
        for each, how in zip(recipe.view.inputs, ("mean", "last", "max"), strict=True)
    )
    view = recipe.view.model_copy(update={"window": window, "inputs": inputs})
    samples = window_samples(normal, view, stride=1)
    values = normal.tables[0].steps.values
    x = samples.x[(samples.table == 0) & (samples.end_ms == 20_000)][0]
    assert x[1] == pytest.approx([values[15:20, 0].mean(), values[19, 1], values[15:20, 2].max()], rel=1e-5)
    with pytest.raises(DataError, match=r"steps of 1 s do not make such of 1\.5 s"):
        window_samples(normal, view.model_copy(update={"window": window.model_copy(update={"step_s": 1.5})}), stride=1)


def test_what_a_training_leaves(options: Options, conv_recipe: AnomalyRecipe, tmp_path: Path) -> None:
    train_anomaly(conv_recipe, options)
    place = tmp_path / "pumps"
    told = json.loads((place / "trained.json").read_text())
    net = Autoencoder.load(place / "model.keras", conv_recipe)
    calibration = net.scores(past_of(conv_recipe, options).calibration.x)
    # As many of the windows that set it are above it as is stated, and the highest of the others is at it.
    assert (calibration > told["threshold"]).mean() == pytest.approx(0.01, rel=0.1)
    assert (calibration > told["clear"]).mean() == pytest.approx(0.1, rel=0.1)
    assert told["stated"]["rate"] == 0.01
    assert told["stated"]["independent"] == pytest.approx(len(calibration) / 8)
    assert told["data"]["name"] == "pumps"
    assert "95 % between" in text_of(options)


def test_an_evaluation_from_end_to_end(options: Options, conv_recipe: AnomalyRecipe, tmp_path: Path) -> None:
    evaluate_anomaly(conv_recipe, options)
    document = read_document(tmp_path / "pumps" / "evaluation.json")
    by_name = {each["method"]: each for each in document["methods"]}
    assert list(by_name) == ["net", "robust_z_newest", "robust_z_window", "principal_components"]
    # The two sensors belong together, which no score of one by one sees.
    assert by_name["net"]["average_precision"] > by_name["robust_z_window"]["average_precision"] + 0.2
    assert by_name["net"]["kinds"]["stuck_sensor"]["events"] == 7
    assert by_name["net"]["recall"] >= 6 / 7
    assert document["pointed"] >= 0.5

    (skill,) = verdict(document)
    assert isinstance(skill, Skill)
    assert skill.is_shown
    assert (skill.of, skill.measure) == ("anomaly", "average_precision")
    untrained = {name: by_name[name]["average_precision"] for name in ("robust_z_newest", "robust_z_window")}
    assert skill.against == max(untrained, key=lambda name: untrained[name])
    assert headline(document)["average_precision"] == by_name["net"]["average_precision"]
    assert all(isinstance(sentence, str) and isinstance(is_good, bool) for sentence, is_good in document["verdict"])

    with np.load(tmp_path / "pumps" / "predictions.npz") as arrays:
        assert arrays["scores"].shape == (4, len(arrays["end_ms"]))
        assert arrays["methods"][0] == "net seed 1"
    page = (tmp_path / "pumps" / "report.html").read_text()
    assert "A pump&#39;s &lt;sensors&gt;" in page
    assert page.count("<svg") == 6
    assert "mathdefault" not in page


def test_quickly_the_rate_is_what_the_data_can_show(options: Options, recipe: AnomalyRecipe) -> None:
    careful = replace(recipe, false_alarms=0.0001)
    assert stated_rate(careful, options, 100) == 0.0001
    assert stated_rate(careful, replace(options, quick=True), 100) == 0.01
    assert stated_rate(recipe, replace(options, quick=True), 1000) == 0.01


def test_changes_of_inputs_are_features_too(normal: Dataset, recipe: AnomalyRecipe) -> None:
    feature = Feature(name="tank/level/change", transform="change", of=("tank/level",))
    view = recipe.view.model_copy(update={"features": (*recipe.view.features, feature)})
    x = window_samples(normal, view, stride=1).x
    assert x[100, 1:, 3] == pytest.approx(np.diff(x[100, :, 2]), abs=1e-4)
    assert Incident("leak", 0, 1).what == ""
