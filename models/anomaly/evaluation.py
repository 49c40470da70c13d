"""Whether an anomaly model is worth it: on what it never saw, several times, beside what needs no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from contract.card import Skill
from contract.manifest import ANOMALY
from models.anomaly.judging import Judged, judge, pointed_at, shares_by_event
from models.anomaly.parts import past_of, test_of
from models.anomaly.precision import Gain, gain, ranked
from models.anomaly.scoring import COMPONENTS, NET, SAID, UNTRAINED, scores_of
from models.anomaly.stage import stated_rate
from models.anomaly.truth import blocks_of
from models.evaluation.document import EVALUATION_FILE, PREDICTIONS_FILE, REPORT_FILE, told_of, write_document
from models.recipe import to_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.anomaly.parts import Past, Test
    from models.options import Options
    from models.recipe import AnomalyRecipe

    Floats: TypeAlias = NDArray[np.float64]

MEASURE: Final = "average_precision"


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyEvaluation:
    """`nets` is one for each seed; `others` what they are compared with, whose `gains` are the nets' over each.

    `shares` float64 [events, features]: what contributed to the first net's score; `pointed` the share of found events
    where that named what was wrong.
    """

    recipe: AnomalyRecipe
    past: Past
    test: Test
    nets: tuple[Judged, ...]
    others: Mapping[str, Judged]
    gains: Mapping[str, Gain]
    shares: Floats
    pointed: float | None
    is_quick: bool

    @property
    def strongest(self) -> str:
        """The best of what needs no training, chosen by hindsight: to the net's disadvantage."""
        return max(UNTRAINED, key=lambda name: self.others[name].average_precision)

    @property
    def skill(self) -> Skill:
        """Against the strongest."""
        won = self.gains[self.strongest]
        return Skill(of=ANOMALY, measure=MEASURE, against=self.strongest, skill=won.skill, low=won.low, high=won.high)

    @property
    def verdict(self) -> tuple[tuple[str, bool], ...]:
        """Plain sentences, each with whether it is good news."""
        return (self._against_untrained, self._against_linear, self._false_alarms)

    @property
    def _against_untrained(self) -> tuple[str, bool]:
        ours = self.mean(lambda each: each.average_precision)
        other, skill = self.others[self.strongest].average_precision, self.skill
        told = f"average precision {ours:.2f} against {other:.2f} of {SAID[self.strongest]}"
        interval = f"skill {skill.skill:.2f}, 95 % between {skill.low:.2f} and {skill.high:.2f}"
        if skill.is_shown:
            return f"Better than what needs no training: {told} ({interval}).", True
        if skill.high < 0:
            return f"Worse than what needs no training, which should be used instead: {told} ({interval}).", False
        return f"Not shown to be better than what needs no training: {told} ({interval}).", False

    @property
    def _against_linear(self) -> tuple[str, bool]:
        won, other = self.gains[COMPONENTS], self.others[COMPONENTS].average_precision
        told = f"{SAID[COMPONENTS].capitalize()}, as large as the net, has {other:.2f}"
        if won.low > 0:
            return f"{told}: the net is better.", True
        return f"{told}: {'the net is worse' if won.high < 0 else 'no difference is shown'}.", False

    @property
    def _false_alarms(self) -> tuple[str, bool]:
        one, share = self.nets[0].threshold, self.mean(lambda each: each.false_share)
        told = (
            f"Of normal windows {100 * share:.2g} % were above the threshold. Stated is {100 * one.rate:.2g} %; the "
            f"{one.independent:.0f} independent windows behind it allow {100 * one.low:.2g} to {100 * one.high:.2g} %."
        )
        return told, share <= one.high

    def mean(self, number: Any) -> float:  # noqa: ANN401 - a function of a Judged
        """Of something over all trainings."""
        return float(np.mean([number(each) for each in self.nets]))

    def to_document(self) -> dict[str, Any]:
        """For `evaluation.json`: see `models.evaluation.document`."""
        truth = self.test.truth
        return {
            "kind": "anomaly",
            "recipe": self.recipe.name,
            "title": self.recipe.title,
            "quick": self.is_quick,
            "data": told_of(self.test.dataset),
            "learnt_from": told_of(self.past.dataset),
            "verdict": [list(each) for each in self.verdict],
            "skill": [self.skill.model_dump()],
            "headline": self.headline,
            "asked": to_document(self.recipe),
            "events": len(truth.events),
            "prevalence": float(truth.is_incident.sum() / truth.is_judged.sum()),
            "stated": self._stated,
            "pointed": self.pointed,
            "methods": [each.to_document(truth) for each in (*self.nets, *self.others.values())],
            "gains": {
                name: {"skill": each.skill, "low": each.low, "high": each.high} for name, each in self.gains.items()
            },
        }

    @property
    def headline(self) -> dict[str, float]:
        """For the manifest: means over the trainings."""
        return {
            "average_precision": self.mean(lambda each: each.average_precision),
            "baseline.average_precision": self.others[self.strongest].average_precision,
            "precision": self.mean(lambda each: each.events.precision),
            "recall": self.mean(lambda each: each.events.recall),
            "f1": self.mean(lambda each: each.events.f1),
            "false_alarms_per_day": self.mean(lambda each: each.events.false_alarms_per_day),
            "false_share": self.mean(lambda each: each.false_share),
        }

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """For `predictions.npz`: everything by window, so that all numbers can be found again."""
        truth, samples = self.test.truth, self.test.samples
        every = (*self.nets, *self.others.values())
        return {
            "end_ms": samples.end_ms,
            "table": samples.table,
            "event": truth.event,
            "is_normal": truth.is_normal,
            "methods": np.array([label(each) for each in every]),
            "scores": np.stack([each.scored.test for each in every]),
            "calibration": np.stack([each.scored.calibration for each in every]),
            "levels": np.array([each.threshold.level for each in every]),
            "clears": np.array([each.threshold.clear for each in every]),
            "shares": self.shares,
        }

    @property
    def _stated(self) -> dict[str, float]:
        one = self.nets[0].threshold
        return {
            "rate": one.rate,
            "low": one.low,
            "high": one.high,
            "windows": one.windows,
            "independent": one.independent,
        }


def evaluate_anomaly(recipe: AnomalyRecipe, options: Options) -> None:
    """Writes `evaluation.json`, `predictions.npz` and `report.html`."""
    from models.anomaly.page import anomaly_page  # noqa: PLC0415 - matplotlib, once all is done
    from models.evaluation.report import write_report  # noqa: PLC0415 - as above

    made = evaluated(recipe, options)
    place = options.work / recipe.name
    place.mkdir(parents=True, exist_ok=True)
    write_document(made.to_document(), place / EVALUATION_FILE)
    part = place / f"{PREDICTIONS_FILE}.part"
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **made.to_arrays())
    part.replace(place / PREDICTIONS_FILE)
    write_report(anomaly_page(made), place / REPORT_FILE)
    for sentence, is_good in made.verdict:
        options.console.print(f"{recipe.name}: {sentence}", style="green" if is_good else "yellow", markup=False)


def evaluated(recipe: AnomalyRecipe, options: Options) -> AnomalyEvaluation:
    """Trains once for each seed, and judges."""
    past, test = past_of(recipe, options), test_of(recipe, options)
    independent = len(past.calibration) / recipe.view.window.length
    rate = stated_rate(recipe, options, independent)
    every = [judge(each, test, independent, rate) for each in scores_of(recipe, past, test, options)]
    nets = tuple(each for each in every if each.scored.method == NET)
    others = {each.scored.method: each for each in every if each.scored.method != NET}
    first = nets[0]
    assert first.scored.errors is not None
    shares = shares_by_event(test.truth, first.scored.errors)
    return AnomalyEvaluation(
        recipe=recipe,
        past=past,
        test=test,
        nets=nets,
        others=others,
        gains=_gains(nets, others, test, options.seed),
        shares=shares,
        pointed=pointed_at(test.truth, shares, first.events.found, recipe.view),
        is_quick=options.quick,
    )


def _gains(nets: tuple[Judged, ...], others: Mapping[str, Judged], test: Test, seed: int) -> dict[str, Gain]:
    chosen, is_incident = test.truth.is_judged, test.truth.is_incident
    blocks = blocks_of(test.truth, test.samples)[chosen]
    ours = [ranked(each.scored.test[chosen], is_incident[chosen]) for each in nets]
    return {
        name: gain(ours, ranked(each.scored.test[chosen], is_incident[chosen]), blocks, seed)
        for name, each in others.items()
    }


def label(each: Judged) -> str:
    """What a method is called, with its seed if it has one."""
    return each.scored.method if each.scored.seed is None else f"{each.scored.method} seed {each.scored.seed}"
