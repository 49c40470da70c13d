"""What is to be made of which data: a recipe is one frozen value, and everything that is made says which it was of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from contract.manifest import Target, View


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How long and how fast is learnt; `patience`: epochs without a better validation loss before it stops."""

    epochs: int = 30
    patience: int = 4
    batch: int = 256
    learning_rate: float = 2e-3


@dataclass(frozen=True, kw_only=True)
class WalkForward:
    """How a model is judged: trained on what was before each fold, several times by another seed."""

    folds: int = 3
    seeds: tuple[int, ...] = (1, 2)
    test_share: float = 0.4


@dataclass(frozen=True, kw_only=True)
class ForecastRecipe:
    """Quantiles of targets at horizons (steps). The means and scales in `view` and `targets` are learnt from the data.

    `dataset` is the name of one of `models/data`; `season` is after how many steps things repeat, for the seasonal
    naive forecast; `stride` is how many steps lie between two windows that are trained on.
    """

    name: str
    title: str
    dataset: str
    view: View
    targets: tuple[Target, ...]
    horizons: tuple[int, ...]
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    season: int
    units: int = 32
    stride: int = 1
    fit: Fit = field(default_factory=Fit)
    judged: WalkForward = field(default_factory=WalkForward)


@dataclass(frozen=True, kw_only=True)
class AnomalyRecipe:
    """An autoencoder of windows; `false_alarms`: which share of normal windows may be above the threshold."""

    name: str
    title: str
    dataset: str
    view: View
    units: int = 32
    stride: int = 1
    false_alarms: float = 0.001
    fit: Fit = field(default_factory=Fit)
    judged: WalkForward = field(default_factory=WalkForward)


Recipe: TypeAlias = ForecastRecipe | AnomalyRecipe
