"""Alarms, events and which belong together, worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from contract.manifest import View
from models.anomaly.events import is_alarmed, judged
from models.anomaly.judging import found_by_kind, pointed_at, shares_by_event
from models.anomaly.truth import Truth, blocks_of, truth_of
from models.data.dataset import Dataset, Incident
from models.samples import Samples, window_samples

if TYPE_CHECKING:
    from models.recipe import AnomalyRecipe

from dataclasses import replace


def seen(dataset: Dataset, recipe: AnomalyRecipe, *incidents: Incident) -> tuple[Samples, Truth]:
    """Windows of 8 s at each second of a table with these incidents."""
    table = replace(dataset.tables[0], incidents=incidents)
    changed = replace(dataset, tables=(table,))
    samples = window_samples(changed, recipe.view, stride=1)
    return samples, truth_of(changed, recipe.view, samples)


def scores_at(samples: Samples, *spans_s: tuple[int, int]) -> np.ndarray:
    """1 for windows that end in these spans (the end excluded), 0 for others."""
    end_s = samples.end_ms // 1000
    return np.any([(end_s >= start) & (end_s < end) for start, end in spans_s], axis=0).astype(np.float32)


def test_an_alarm_lasts_until_the_score_is_below_clear() -> None:
    scores = np.array([0.5, 1.0, 1.1, 0.9, 0.7, 1.2, 0.6, 0.5, 0.9, 1.0], np.float32)
    told = is_alarmed(scores, 1.0, 0.7)
    # 1.0 is not above the threshold, 0.7 not below clear.
    assert told.tolist() == [False, False, True, True, True, True, False, False, False, False]


def test_a_window_is_what_its_newest_step_is(normal: Dataset, recipe: AnomalyRecipe) -> None:
    samples, truth = seen(normal, recipe, Incident("leak", 100_000, 103_000))
    ends = samples.end_ms
    # The steps that begin at 100, 101 and 102 s end a second later.
    assert ends[truth.is_incident].tolist() == [101_000, 102_000, 103_000]
    # Two windows' lengths are 16 s: the step from 118 to 119 s is the last one of the aftermath.
    assert ends[~truth.is_normal].tolist() == list(range(101_000, 120_000, 1000))


def test_an_incident_between_steps_or_without_windows_is_none(normal: Dataset, recipe: AnomalyRecipe) -> None:
    _, truth = seen(normal, recipe, Incident("early", 0, 7000), Incident("late", 9_000_000, 9_100_000))
    assert truth.events == ()
    samples, truth = seen(normal, recipe, Incident("short", 100_400, 100_600))
    assert samples.end_ms[truth.is_incident].tolist() == [101_000]


def test_events_and_false_alarms_are_counted(normal: Dataset, recipe: AnomalyRecipe) -> None:
    samples, truth = seen(
        normal,
        recipe,
        Incident("leak", 100_000, 150_000),
        Incident("wear", 300_000, 350_000),
        Incident("leak", 500_000, 550_000),
        Incident("leak", 700_000, 750_000),
    )
    alarms = ((110, 120), (130, 140), (355, 360), (400, 401), (450, 510), (760, 770))
    events = judged(truth, samples, scores_at(samples, *alarms), 0.5, 0.5)
    # The first is found after 10 s and once more; the second within a window's length (8 s) after its end. The third
    # had its alarm before it began, which is false like that at 400 s; that at 760 s is too late, but no false one.
    assert events.found == (True, True, False, False)
    assert events.delays_s == (10.0, 55.0)
    assert events.false_alarms == 2
    assert (events.precision, events.recall, events.f1) == (0.5, 0.5, 0.5)
    assert events.days == pytest.approx((3000 - 7 - 4 * (50 + 16)) / 86_400)
    assert events.false_alarms_per_day == pytest.approx(2 / events.days)
    assert found_by_kind(truth, events) == {"leak": (1, 3), "wear": (1, 1)}


def test_who_always_alarms_finds_nothing(normal: Dataset, recipe: AnomalyRecipe) -> None:
    samples, truth = seen(normal, recipe, Incident("leak", 100_000, 150_000))
    always = judged(truth, samples, np.ones(len(samples), np.float32), 0.5, 0.5)
    assert (always.recall, always.precision, always.f1, always.false_alarms) == (0.0, 0.0, 0.0, 1)
    never = judged(truth, samples, np.zeros(len(samples), np.float32), 0.5, 0.5)
    assert (never.recall, never.precision, never.false_alarms) == (0.0, 0.0, 0)


def test_tables_do_not_share_alarms(normal: Dataset, recipe: AnomalyRecipe) -> None:
    first = replace(normal.tables[0], incidents=(Incident("leak", 100_000, 150_000),))
    both = replace(normal, tables=(first, normal.tables[1]))
    samples = window_samples(both, recipe.view, stride=1)
    truth = truth_of(both, recipe.view, samples)
    elsewhere = scores_at(samples, (120, 130)) * (samples.table == 1)
    events = judged(truth, samples, elsewhere.astype(np.float32), 0.5, 0.5)
    assert (events.found, events.false_alarms) == ((False,), 1)


def test_blocks_are_cut_half_way_between_incidents(normal: Dataset, recipe: AnomalyRecipe) -> None:
    samples, truth = seen(normal, recipe, Incident("a", 100_000, 200_000), Incident("b", 400_000, 500_000))
    blocks = blocks_of(truth, samples)
    assert samples.end_ms[np.flatnonzero(np.diff(blocks)) + 1].tolist() == [300_000]
    assert set(blocks.tolist()) == {0, 1}


def test_contributions_name_what_was_wrong(normal: Dataset, recipe: AnomalyRecipe) -> None:
    places = ("pump/flow", "pump", "tank", "")
    begins = (100_000, 300_000, 500_000, 700_000)
    incidents = [Incident("stuck", at, at + 2000, what) for at, what in zip(begins, places, strict=True)]
    samples, truth = seen(normal, recipe, *incidents)
    errors = np.tile(np.array([1.0, 3.0, 0.0], np.float32), (len(samples), 1))
    shares = shares_by_event(truth, errors)
    assert shares == pytest.approx(np.tile([0.25, 0.75, 0.0], (4, 1)))
    # The flow is greatest: that is what was said, it is the pump's, and it is not the tank's; the last says no place.
    assert pointed_at(truth, shares, (True,) * 4, recipe.view) == pytest.approx(2 / 3)
    assert pointed_at(truth, shares, (False, False, True, True), recipe.view) == 0.0
    assert pointed_at(truth, shares, (False,) * 4, recipe.view) is None


def test_a_place_is_a_whole_word(normal: Dataset, recipe: AnomalyRecipe) -> None:
    _, truth = seen(normal, recipe, Incident("wear", 100_000, 102_000, "pum"))
    assert isinstance(recipe.view, View)
    assert pointed_at(truth, np.array([[1.0, 0.0, 0.0]]), (True,), recipe.view) == 0.0
