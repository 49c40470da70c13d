from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from contract.windows import Steps
from models.data.dataset import Dataset, Table
from models.evaluation import stage
from models.evaluation.document import headline, read_document, verdict
from models.evaluation.ets import answer, ets_jobs, ets_told
from models.evaluation.fitting import past_of
from models.evaluation.folds import folds_of
from models.evaluation.tracks import tracks_of
from models.evaluation.walk import cut, known_before
from models.options import Options
from models.samples import samples_of

if TYPE_CHECKING:
    from pathlib import Path

    from models.recipe import ForecastRecipe


def evaluated(dataset: Dataset, recipe: ForecastRecipe, place: Path, jobs: int) -> tuple[Path, str]:
    """The results' directory and what the console showed."""
    shown = StringIO()
    options = Options(console=Console(file=shown, width=200), data=place, work=place, quick=True, jobs=jobs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "load", lambda _name, _options: dataset)
        stage.evaluate(recipe, options)
    return place / recipe.name, shown.getvalue()


@pytest.fixture(scope="module")
def of_walk(walks: Dataset, walk_recipe: ForecastRecipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return evaluated(walks, walk_recipe, tmp_path_factory.mktemp("walk"), jobs=2)


@pytest.fixture(scope="module")
def document(of_walk: tuple[Path, str]) -> dict[str, Any]:
    return read_document(of_walk[0] / "evaluation.json")


def test_a_random_walk_has_no_skill_and_it_says_so(of_walk: tuple[Path, str], document: dict[str, Any]) -> None:
    price, _ = verdict(document)
    assert (price.of, price.measure) == ("price", "pinball")
    assert price.low <= 0
    assert not price.is_shown
    median = [each for each in document["comparisons"] if each["target"] == "price" and each["measure"] == "median"]
    assert all(each["low"] <= 0 for each in median if each["against"] == "naive")
    place, shown = of_walk
    assert "price: no skill over" in shown or "price: worse than" in shown
    assert document["sentences"][0][0] in (place / "report.html").read_text()


def test_the_report_shows_names_as_they_are(of_walk: tuple[Path, str]) -> None:
    page = (of_walk[0] / "report.html").read_text()
    assert "<h1>A &lt;b&gt;random&lt;/b&gt; walk</h1>" in page
    assert "Walks &lt;at random&gt;; a test" in page
    assert "://" not in page
    assert page.count("<svg") == 2 + 2 + 4 + 8


def test_each_target_is_compared_with_what_there_is(document: dict[str, Any]) -> None:
    by = {(each["by"], each["target"]) for each in document["scores"]}
    everywhere = {"model", "naive", "seasonal_naive", "autoets"}
    assert {name for name, target in by if target == "price"} == everywhere | {"scaled_naive"}
    assert {name for name, target in by if target == "volatility"} == everywhere | {"ewma", "har"}
    numbers = headline(document)
    assert set(numbers) == {
        f"{t}.{n}" for t in ("price", "volatility") for n in ("pinball", "mase", "rmse_ratio", "coverage")
    }
    assert 0.6 < numbers["price.coverage"] < 0.95


def test_what_was_told_is_kept(
    of_walk: tuple[Path, str], document: dict[str, Any], walks: Dataset, walk_recipe: ForecastRecipe
) -> None:
    samples = samples_of(walks, walk_recipe, stride=1)
    judged = samples.between(document["folds"][0]["test_ms"][0], np.inf)
    with np.load(of_walk[0] / "predictions.npz") as kept:
        np.testing.assert_array_equal(kept["y"], judged.y)
        np.testing.assert_array_equal(kept["end_ms"], judged.end_ms)
        assert kept["told"].shape == (1, len(judged), 2, 2, 3)
        assert set(kept["fold"]) == {1, 2}
        assert np.isfinite(kept["told"]).all()
        assert 0 < np.isfinite(kept["autoets"][:, 0, 0, 0]).sum() < 20
        pinball = next(each for each in document["scores"] if each["by"] == "model" and each["target"] == "price")[
            "numbers"
        ]["pinball"]
        error = kept["y"][:, 0, :, None].astype(float) - kept["told"][0, :, 0]
        assert np.maximum([0.1, 0.5, 0.9] * error, [-0.9, -0.5, -0.1] * error).mean() == pytest.approx(
            pinball, rel=1e-5
        )


def test_nothing_that_is_learnt_from_or_fitted_to_depends_on_what_came_later(
    walks: Dataset, walk_recipe: ForecastRecipe
) -> None:
    samples = samples_of(walks, walk_recipe, stride=1)
    fold = folds_of(samples.end_ms, walk_recipe.judged)[0]
    tables = []
    for table in walks.tables:
        values = table.steps.values.copy()
        values[table.steps.at_ms >= fold.test_from_ms - 1000 * walk_recipe.view.window.length] *= 7
        tables.append(Table(table.key, Steps(table.steps.at_ms, values, table.steps.is_spoilt)))
    other = replace(walks, tables=tuple(tables))
    others = samples_of(other, walk_recipe, stride=1)
    assert not np.array_equal(samples.y, others.y)
    tracks, other_tracks = tracks_of(walks, walk_recipe), tracks_of(other, walk_recipe)
    part, other_part = (cut(walk_recipe, fold, *each) for each in ((samples, tracks), (others, other_tracks)))
    for mask, other_mask in ((part.train, other_part.train), (part.valid, other_part.valid)):
        np.testing.assert_array_equal(mask, other_mask)
        np.testing.assert_array_equal(samples.x[mask], others.x[mask])
        np.testing.assert_array_equal(samples.y[mask], others.y[mask])
    for track, other_track, known in zip(tracks, other_tracks, known_before(part, samples, tracks), strict=True):
        np.testing.assert_array_equal(track.known[known], other_track.known[known])
        # The last bit of a sum depends on where in memory its numbers lie.
        np.testing.assert_allclose(track.came[known], other_track.came[known], rtol=1e-9)


def test_autoets_knows_nothing_after_its_origin_and_hits_a_trend(walks: Dataset, walk_recipe: ForecastRecipe) -> None:
    at = np.arange(900)
    values = np.exp(0.01 * at + np.random.default_rng(1).normal(0, 1e-4, 900))[:, None]
    trend = replace(walks, tables=(Table("t", Steps(at * 1000, values, np.zeros((900, 1), bool))),))
    tracks = tracks_of(trend, walk_recipe)
    past = past_of(walk_recipe, tracks, [at < 500])
    end_ms = tracks[0].end_ms[600:890:10]
    jobs = ets_jobs(past, end_ms, np.zeros(len(end_ms), np.int32), quick=True)
    asked = [each for job in jobs for each in job.run.args[0]]  # type: ignore[attr-defined] # a partial
    assert {each.target for each in asked} == {0, 1}
    assert all(
        each.series[-1] == pytest.approx(np.log(values[600 + 10 * each.origin, 0])) for each in asked if not each.target
    )
    of_price = [each for each in asked if each.target == 0][:2]
    told = ets_told([answer(of_price, (0.1, 0.5, 0.9), lambda _share, _words: None)], np.zeros((len(end_ms), 2, 2, 3)))
    first = told[of_price[0].origin, 0]  # [horizons, quantiles]
    np.testing.assert_allclose(first[:, 1], [0.01, 0.05], rtol=0.1)
    assert (np.diff(first, axis=-1) > 0).all()


@pytest.mark.slow
def test_the_result_is_the_same_however_many_processes_there_are(
    of_walk: tuple[Path, str], walks: Dataset, walk_recipe: ForecastRecipe, tmp_path: Path
) -> None:
    place, _ = evaluated(walks, walk_recipe, tmp_path, jobs=1)
    with np.load(of_walk[0] / "predictions.npz") as ours, np.load(place / "predictions.npz") as theirs:
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.slow
def test_what_can_be_known_is_found(waves: Dataset, wave_recipe: ForecastRecipe, tmp_path: Path) -> None:
    place, _ = evaluated(waves, wave_recipe, tmp_path, jobs=2)
    document = read_document(place / "evaluation.json")
    against = {
        (each["against"], each["target"]): each
        for each in document["comparisons"]
        if each["horizon"] is None and each["measure"] == "pinball"
    }
    assert against["naive", "wave"]["low"] > 0.3
    assert against["naive", "wave"]["p"] < 0.001
