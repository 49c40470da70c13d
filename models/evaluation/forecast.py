"""A forecast's evaluation: everything in it is of windows later than all that was learnt from."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from contract.card import Skill
from models.evaluation.baselines import SOURCES
from models.evaluation.comparing import comparisons_of, strongest_of
from models.evaluation.document import name_of, told_of
from models.evaluation.examples import examples_of
from models.evaluation.measures import is_within, mean
from models.evaluation.scores import MODEL, scores_of
from models.evaluation.verdict import sentence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.data.dataset import Dataset
    from models.evaluation.comparing import Comparison
    from models.evaluation.examples import Example
    from models.evaluation.scores import Score
    from models.evaluation.walk import Walked
    from models.options import Options
    from models.recipe import ForecastRecipe

    Floats: TypeAlias = NDArray[np.float64]

_LISTS: Final = ("folds", "learning", "scores", "comparisons", "coverage", "examples")
# In how many pieces of time the coverage is shown.
_PIECES: Final = 24


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which share came between the lowest and the highest quantile, in a piece of time that begins then."""

    target: str
    from_ms: int
    coverage: float
    windows: int


@dataclass(frozen=True, slots=True)
class FoldStory:
    """A fold: its times (UTC ms, of windows' ends, the last one included) and how many windows were what."""

    number: int
    train_ms: tuple[int, int]
    valid_ms: tuple[int, int]
    test_ms: tuple[int, int]
    train: int
    valid: int
    test: int


@dataclass(frozen=True, slots=True)
class Learning:
    """The losses of each epoch of a fold's net."""

    fold: int
    seed: int
    train: tuple[float, ...]
    valid: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ForecastEvaluation:
    """What `evaluation.json` says of a forecast."""

    recipe: ForecastRecipe
    data: dict[str, str]
    is_quick: bool
    seconds: float
    folds: tuple[FoldStory, ...]
    learning: tuple[Learning, ...]
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    strongest: tuple[str, ...]
    coverage: tuple[Coverage, ...]
    examples: tuple[Example, ...]

    def comparison(self, target: str, against: str, measure: str = "pinball") -> Comparison:
        """Over all horizons."""
        return next(
            each
            for each in self.comparisons
            if (each.target, each.horizon, each.against, each.measure) == (target, None, against, measure)
        )

    @property
    def skill(self) -> tuple[Skill, ...]:
        """Of each target, against what is hardest to beat."""
        found = [
            self.comparison(target.name, against)
            for target, against in zip(self.recipe.targets, self.strongest, strict=True)
        ]
        return tuple(
            Skill(of=name_of(each.target), measure="pinball", against=each.against, **_interval(each)) for each in found
        )

    @property
    def sentences(self) -> tuple[tuple[str, bool], ...]:
        """In plain words, of each target, and whether it is good news."""
        return tuple(
            sentence(target, self.comparison(target.name, against), self.comparison(target.name, against, "median"))
            for target, against in zip(self.recipe.targets, self.strongest, strict=True)
        )

    @property
    def headline(self) -> dict[str, float]:
        """Of each target over all horizons."""
        return {
            f"{name_of(score.target)[:40]}.{name}": getattr(score.numbers, name)
            for score in self.scores
            if score.by == MODEL and score.horizon is None
            for name in ("pinball", "mase", "rmse_ratio", "coverage")
        }

    def to_document(self) -> dict[str, Any]:
        """As `models.evaluation.document` has it, and what is a forecast's own."""
        return {
            "format": 1,
            "kind": "forecast",
            "recipe": self.recipe.name,
            "title": self.recipe.title,
            "quick": self.is_quick,
            "data": self.data,
            "verdict": " ".join(sentence for sentence, _ in self.sentences),
            "sentences": self.sentences,
            "skill": [each.model_dump() for each in self.skill],
            "headline": self.headline,
            "seconds": round(self.seconds, 1),
            "asked": _asked(self.recipe),
            "baselines": SOURCES,
            **{name: [asdict(each) for each in getattr(self, name)] for name in _LISTS},
        }


def evaluated(walked: Walked, dataset: Dataset, options: Options, began_s: float) -> ForecastEvaluation:
    """What can be said of it; `began_s` on the monotonic clock."""
    return ForecastEvaluation(
        recipe=walked.recipe,
        data=told_of(dataset),
        is_quick=options.quick,
        folds=tuple(_stories(walked)),
        learning=tuple(Learning(each.fold, each.seed, *map(tuple, each.history.T.tolist())) for each in walked.learnt),
        scores=tuple(scores_of(walked)),
        comparisons=tuple(comparisons_of(walked, options.seed)),
        strongest=tuple(strongest_of(walked, target) for target in range(len(walked.recipe.targets))),
        coverage=tuple(_coverage(walked)),
        examples=tuple(examples_of(walked, tuple(table.key for table in dataset.tables))),
        seconds=time.monotonic() - began_s,
    )


def arrays_of(walked: Walked) -> dict[str, NDArray[np.generic]]:
    """What `predictions.npz` has, all as the model tells its targets.

    `y` [windows, targets, horizons]; `told` [seeds, windows, targets, horizons, quantiles] and the same without seeds
    of each of the others by its name, NaN where it has none; `end_ms`, `table` and `fold` [windows]; `seeds` [seeds].
    """
    return {
        "end_ms": walked.test.end_ms,
        "table": walked.test.table,
        "fold": walked.fold,
        "seeds": np.array(walked.recipe.judged.seeds),
        "y": walked.test.y,
        "told": walked.told.astype(np.float32),
        **{name: told.astype(np.float32) for name, told in walked.others.items()},
    }


def _interval(found: Comparison) -> dict[str, float]:
    return {"skill": found.skill, "low": found.low, "high": found.high}


def _asked(recipe: ForecastRecipe) -> dict[str, Any]:
    """What of the recipe a reader wants to know."""
    return {
        "targets": [
            each.model_dump(include={"name", "unit", "transform", "of", "over", "relative"}) for each in recipe.targets
        ],
        "features": [each.name for each in recipe.view.features],
        "length": recipe.view.window.length,
        "step_s": recipe.view.window.step_s,
        "steps": recipe.view.window.steps,
        "horizons": recipe.horizons,
        "quantiles": recipe.quantiles,
        "season": recipe.season,
        "stride": recipe.stride,
        "units": recipe.units,
        "seeds": recipe.judged.seeds,
    }


def _stories(walked: Walked) -> list[FoldStory]:
    end_ms = walked.end_ms
    return [
        FoldStory(
            fold.number,
            _span(end_ms[part.train]),
            _span(end_ms[part.valid]),
            _span(end_ms[part.test]),
            int(part.train.sum()),
            int(part.valid.sum()),
            int(part.test.sum()),
        )
        for fold, part in zip(walked.folds, walked.parts, strict=True)
    ]


def _span(end_ms: NDArray[np.int64]) -> tuple[int, int]:
    return int(end_ms[0]), int(end_ms[-1])


def _coverage(walked: Walked) -> list[Coverage]:
    """By pieces of equally many windows; over horizons and seeds."""
    made = []
    pieces = np.array_split(np.arange(len(walked.test)), min(_PIECES, len(walked.test)))
    for place, target in enumerate(walked.recipe.targets):
        within = is_within(walked.test.y.astype(np.float64)[None, :, place], walked.told[:, :, place])
        made += [
            Coverage(target.name, int(walked.test.end_ms[each[0]]), mean(within[:, each]), len(each)) for each in pieces
        ]
    return made
