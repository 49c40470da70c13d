"""What is to be made of which data: a recipe is one frozen value, and everything that is made says which it was of."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from contract.config import Config

if TYPE_CHECKING:
    from contract.manifest import Target, View

# What `quick` leaves of a recipe.
_QUICK_EPOCHS: Final = 3
_QUICK_UNITS: Final = 16
_QUICK_STRIDE: Final = 2


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
    """An autoencoder of windows; `false_alarms`: which share of normal windows may be above the threshold.

    `judged_on` is a dataset with incidents on which it is judged; none: on the newest part of its own. A window has to
    go through `code` numbers; an LSTM reads and writes `patch` steps at a time.
    """

    name: str
    title: str
    dataset: str
    judged_on: str | None = None
    view: View
    net: Literal["lstm", "conv"] = "lstm"
    units: int = 32
    patch: int = 4
    code: int = 48
    stride: int = 1
    false_alarms: float = 0.001
    fit: Fit = field(default_factory=Fit)
    judged: WalkForward = field(default_factory=WalkForward)


Recipe: TypeAlias = ForecastRecipe | AnomalyRecipe
_AnyRecipe = TypeVar("_AnyRecipe", bound="ForecastRecipe | AnomalyRecipe")


def quick(recipe: _AnyRecipe) -> _AnyRecipe:
    """The same in seconds: smaller, learnt less long from fewer windows, and judged once. Good for trying alone."""
    return replace(
        recipe,
        units=min(recipe.units, _QUICK_UNITS),
        stride=recipe.stride * _QUICK_STRIDE,
        fit=replace(recipe.fit, epochs=min(recipe.fit.epochs, _QUICK_EPOCHS)),
        judged=replace(recipe.judged, folds=1, seeds=recipe.judged.seeds[:1]),
    )


def to_document(recipe: Recipe) -> dict[str, object]:
    """All that it says, for JSON."""
    return {each.name: _plain(getattr(recipe, each.name)) for each in fields(recipe)}


def _plain(value: object) -> object:
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
