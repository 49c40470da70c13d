from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from contract.manifest import ForecastOutput, parse_manifest
from models.errors import ModelsError
from models.forecaster import Forecaster
from models.options import Options
from models.quantization.results import Quantization, Tried
from models.quantization.stage import quantize
from models.quantization.subject import subject_of

if TYPE_CHECKING:
    from pathlib import Path

    from models.data.dataset import Dataset
    from models.recipe import ForecastRecipe


@pytest.fixture
def options(wave_work: Path, waves: Dataset, monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setattr("models.quantization.subject.load", lambda _name, _options: waves)
    return Options(console=Console(quiet=True), work=wave_work.parent)


def digests(package: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in package.iterdir()}


def quantization(wave_work: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((wave_work / "quantization.json").read_bytes())
    return found


def test_the_manifest_says_what_is_in_the_package(wave_work: Path, wave_recipe: ForecastRecipe) -> None:
    package = wave_work / "package"
    manifest = parse_manifest((package / "manifest.json").read_bytes(), "manifest.json")
    trained = json.loads((wave_work / "trained.json").read_bytes())
    scaler = Forecaster.load(wave_work / "model.keras", wave_recipe).scaler
    assert manifest.name == "wave"
    assert [feature.mean for feature in manifest.features] == pytest.approx(scaler.feature_mean)
    assert [feature.scale for feature in manifest.features] == pytest.approx(scaler.feature_scale)
    assert isinstance(manifest.output, ForecastOutput)
    assert [target.scale for target in manifest.targets] == pytest.approx(scaler.target_scale)
    assert manifest.output.quantiles == wave_recipe.quantiles
    assert manifest.training is not None
    assert manifest.training.windows == trained["windows"]["train"]
    assert manifest.training.sha256 == trained["data"]["sha256"]
    assert manifest.version.startswith(trained["trained_at"][:10].replace("-", "") + ".")
    for each in manifest.files:
        content = (package / each.file).read_bytes()
        assert (each.size_bytes, each.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert {each.file for each in manifest.files} == {path.name for path in package.iterdir()} - {"manifest.json"}
    assert {("float32", "tflite"), ("int8", "tflite"), ("float32", "tensorflow")} <= {
        (each.form, each.runtime) for each in manifest.files
    }


def test_a_package_is_the_same_when_it_is_made_again_and_what_was_done_is_told(
    wave_work: Path, wave_recipe: ForecastRecipe, options: Options
) -> None:
    before = digests(wave_work / "package")
    with (wave_work / "told").open("w") as file:
        quantize(wave_recipe, replace(options, console=Console(width=220, file=file)))
    assert digests(wave_work / "package") == before
    told = (wave_work / "told").read_text()
    for words in ("int8", "us in tflite-runtime 2.14.0 (p99)", "not signed", "says nothing of its skill"):
        assert words in told


def test_every_form_was_run_in_every_runtime(wave_work: Path) -> None:
    document = quantization(wave_work)
    assert {each["form"] for each in document["tried"]} == {"float32", "float16", "dynamic", "int8"}
    assert document["windows"] > 300
    for each in document["tried"]:
        assert [run["runtime"].rpartition(" ")[0] for run in each["runs"]] == ["tflite-runtime", "ai-edge-litert"]
        for run in each["runs"]:
            assert run["fault"] is None
            assert 1 < run["median_us"] <= run["p99_us"]
            assert 100 < run["peak_kb"] < 50_000
        assert {error["of"]: error["unit"] for error in each["judged"]["errors"]} == {"wave": "m", "restlessness": "m"}
        for error in each["judged"]["errors"]:
            assert (
                error["mean"]
                <= error["greatest"]
                < {"float32": 1e-4, "float16": 0.01, "dynamic": 0.1, "int8": 0.3}[each["form"]]
            )
    assert set(document["fastest"]) == {"tflite-runtime 2.14.0", "ai-edge-litert 2.3.0"}


def test_only_what_is_as_good_as_float_is_for_devices(wave_work: Path) -> None:
    for each in quantization(wave_work)["tried"]:
        assert (each["left_out"] is not None) >= (each["judged"]["worse"] > 0.01)


def test_what_was_not_trained_is_not_quantized(tmp_path: Path, wave_recipe: ForecastRecipe, options: Options) -> None:
    with pytest.raises(ModelsError, match="is not there: train first"):
        subject_of(wave_recipe, replace(options, work=tmp_path))


def test_what_was_trained_by_another_recipe_is_refused(wave_recipe: ForecastRecipe, options: Options) -> None:
    with pytest.raises(ModelsError, match="a recipe with other season: train again"):
        subject_of(replace(wave_recipe, season=7), options)


def test_the_fastest_is_one_of_those_that_devices_get() -> None:
    from models.quantization.measuring import Run  # noqa: PLC0415 - beside its use

    def tried(form: Any, us: float, left_out: str | None = None) -> Tried:
        return Tried(form, wide=False, size_bytes=1, runs=(Run("a 1", us),), judged=None, left_out=left_out)

    found = Quantization("r", "pinball", 1.0, 500, (tried("float32", 5), tried("int8", 3), tried("dynamic", 1, "no")))
    assert found.fastest("a 1") == "int8"
    assert found.fastest("b 1") is None


def test_what_no_manifest_can_say_is_told(wave_recipe: ForecastRecipe, options: Options) -> None:
    from models.quantization.stage import _manifest  # noqa: PLC0415 - beside its use

    evaluation = {"kind": "forecast", "skill": [], "headline": {f"m{number}": 1.0 for number in range(65)}}
    subject = subject_of(wave_recipe, options)
    with pytest.raises(
        ModelsError, match=r"wave: no manifest can be made: .*metrics: Dictionary should have at most 64"
    ):
        _manifest(wave_recipe, subject, Quantization("wave", "pinball", 1.0, 1, ()), {}, evaluation)
