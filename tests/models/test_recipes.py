from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from contract.card import ModelFile
from contract.manifest import AnomalyOutput, ForecastOutput, Manifest
from models.recipe import ForecastRecipe, quick, to_document
from models.recipes import RECIPES

if TYPE_CHECKING:
    from models.recipe import Recipe

_FILE = ModelFile(form="float32", file="float32.tflite", sha256="0" * 64, size_bytes=1)


def manifest_of(recipe: Recipe) -> Manifest:
    output: ForecastOutput | AnomalyOutput = AnomalyOutput(kind="anomaly", score="reconstruction", threshold=1.0)
    if isinstance(recipe, ForecastRecipe):
        output = ForecastOutput(
            kind="forecast", targets=recipe.targets, horizons=recipe.horizons, quantiles=recipe.quantiles
        )
    view = {name: getattr(recipe.view, name) for name in ("inputs", "window", "features")}
    return Manifest(format=1, name=recipe.name, version="1", files=(_FILE,), output=output, **view)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_each_makes_a_manifest(recipe: Recipe) -> None:
    manifest = manifest_of(recipe)
    assert RECIPES[manifest.name] is recipe
    assert recipe.title
    # What is learnt from the data stands in no recipe.
    assert {(each.mean, each.scale) for each in (*manifest.features, *manifest.targets)} == {(0.0, 1.0)}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_each_is_told_whole_in_json(recipe: Recipe) -> None:
    document = json.loads(json.dumps(to_document(recipe)))
    assert document["view"] == recipe.view.model_dump(mode="json")
    assert document["fit"]["epochs"] == recipe.fit.epochs
    assert document["judged"]["seeds"] == list(recipe.judged.seeds)
    assert document.keys() == set(recipe.__dataclass_fields__)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_quick_is_less_of_the_same(recipe: Recipe) -> None:
    less = quick(recipe)
    assert (less.name, less.view, less.dataset) == (recipe.name, recipe.view, recipe.dataset)
    assert less.fit.epochs <= 3
    assert len(less.judged.seeds) == less.judged.folds == 1
    assert less.stride > recipe.stride


def test_a_forecast_on_the_device_is_made_of_what_a_source_tells() -> None:
    view = RECIPES["stock-minute"].view
    assert view.sources == ("price",)
    assert [each.resample for each in view.inputs] == ["last", "max", "min"]


def test_a_price_is_told_as_a_return() -> None:
    for name in ("stock-day", "stock-minute"):
        recipe = RECIPES[name]
        assert isinstance(recipe, ForecastRecipe)
        assert {each.name: each.relative for each in recipe.targets} == {
            "price": "log_ratio",
            "range": None,
            "volatility": None,
        }
