"""The `evaluate` stage: writes `evaluation.json`, `predictions.npz` and `report.html` of a recipe."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.data import load
from models.evaluation.document import EVALUATION_FILE, PREDICTIONS_FILE, REPORT_FILE, write_document
from models.recipe import AnomalyRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from models.options import Options
    from models.recipe import ForecastRecipe, Recipe

_HISTORY_FILE: Final = "history.json"


def evaluate(recipe: Recipe, options: Options) -> None:
    """Judges what the recipe makes, on windows later than all that was learnt from."""
    if isinstance(recipe, AnomalyRecipe):
        from models.anomaly.evaluation import evaluate_anomaly  # noqa: PLC0415 - a forecast needs none of it

        evaluate_anomaly(recipe, options)
    else:
        _evaluate_forecast(recipe, options)


def _evaluate_forecast(recipe: ForecastRecipe, options: Options) -> None:
    from models.evaluation.forecast import arrays_of, evaluated  # noqa: PLC0415 - scipy and matplotlib take a second
    from models.evaluation.pages import forecast_page  # noqa: PLC0415 - as above
    from models.evaluation.report import write_report  # noqa: PLC0415 - as above
    from models.evaluation.walk import walk  # noqa: PLC0415 - as above

    began_s = time.monotonic()
    place = options.work / recipe.name
    place.mkdir(parents=True, exist_ok=True)
    dataset = load(recipe.dataset, options)
    walked = walk(dataset, recipe, options)
    evaluation = evaluated(walked, dataset, options, began_s)
    document = evaluation.to_document()
    _write_arrays(place / PREDICTIONS_FILE, arrays_of(walked))
    write_document(document, place / EVALUATION_FILE)
    write_report(forecast_page(document, _history(place / _HISTORY_FILE)), place / REPORT_FILE)
    for sentence, is_good in evaluation.sentences:
        options.console.print(f"{recipe.name}: {sentence}", style="green" if is_good else "yellow", markup=False)


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(path)


def _history(path: Path) -> dict[str, list[float]]:
    """Of the model that was trained on all data; nothing where it was not yet."""
    try:
        found = json.loads(path.read_bytes())
        return {name: [float(each) for each in found[name]] for name in ("train", "valid")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
