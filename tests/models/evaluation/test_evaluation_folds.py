from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.errors import EvaluationError
from models.evaluation.folds import folds_of, parts_of
from models.evaluation.tracks import tracks_of
from models.evaluation.walk import cut, known_before
from models.recipe import ForecastRecipe, WalkForward
from models.samples import samples_of

if TYPE_CHECKING:
    from models.data.dataset import Dataset

JUDGED = WalkForward(folds=3, seeds=(1,), test_share=0.3)


def test_folds_are_the_end_of_the_data_in_blocks_that_touch() -> None:
    folds = folds_of(np.arange(1000) * 7, JUDGED)
    assert [fold.number for fold in folds] == [1, 2, 3]
    assert folds[0].test_from_ms == 700 * 7
    assert folds[-1].test_to_ms == 999 * 7 + 1
    assert all(one.test_to_ms == other.test_from_ms for one, other in pairwise(folds))
    assert all(fold.valid_from_ms < fold.test_from_ms for fold in folds)


def test_too_little_is_said_so() -> None:
    with pytest.raises(EvaluationError, match="40 windows' ends are too few for 3 folds"):
        folds_of(np.arange(40), JUDGED)


def test_no_step_is_in_two_parts(waves: Dataset, wave_recipe: ForecastRecipe) -> None:
    samples, tracks = samples_of(waves, wave_recipe, stride=1), tracks_of(waves, wave_recipe)
    sees_ms = 1000 * (wave_recipe.view.window.length + wave_recipe.view.reach)
    tells_ms = 1000 * max(wave_recipe.horizons)
    for fold in folds_of(samples.end_ms, JUDGED):
        part = cut(wave_recipe, fold, samples, tracks)
        for earlier, later in ((part.train, part.valid), (part.train, part.test), (part.fit, part.test)):
            assert samples.end_ms[earlier].max() + tells_ms <= samples.end_ms[later].min() - sees_ms
        assert samples.end_ms[part.fit].max() + tells_ms == samples.end_ms[part.test].min() - sees_ms
        fitted = known_before(part, samples, tracks)
        assert all(
            track.end_ms[mask].max() == samples.end_ms[part.fit].max()
            for track, mask in zip(tracks, fitted, strict=True)
        )


def test_the_embargo_counts_each_tables_own_steps() -> None:
    ends = (np.arange(400), np.arange(0, 400, 4))  # the second has a step in four
    end_ms = np.sort(np.concatenate(ends))
    table = np.zeros(len(end_ms), np.int32)
    table[np.searchsorted(end_ms, ends[1])] = 1
    fold = folds_of(end_ms, WalkForward(folds=1, seeds=(1,), test_share=0.3))[0]
    part = parts_of(fold, end_ms, table, ends, embargo=10)
    first = end_ms[part.test].min()
    assert end_ms[part.fit & (table == 0)].max() == first - 10
    assert end_ms[part.fit & (table == 1)].max() == 4 * (-(-first // 4) - 10)


def test_a_table_that_is_new_in_the_test_is_not_learnt_from() -> None:
    ends = (np.arange(400), np.arange(350, 400))
    end_ms = np.concatenate(ends)
    table = np.repeat([0, 1], [400, 50]).astype(np.int32)
    order = np.argsort(end_ms, kind="stable")
    fold = folds_of(end_ms[order], WalkForward(folds=1, seeds=(1,), test_share=0.3))[0]
    part = parts_of(fold, end_ms[order], table[order], ends, embargo=5)
    assert set(table[order][part.fit]) == {0}
    assert set(table[order][part.test]) == {0, 1}
