"""What is 0 and what is 1 to a net: learnt from what is trained on, and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias, TypeVar

import numpy as np

from models.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from contract.manifest import Scaled, Target, View

    Floats: TypeAlias = NDArray[np.float64]

_Scaled = TypeVar("_Scaled", bound="Scaled")

# Keras' Normalization divides by 1e-7 at least.
_LEAST_SCALE: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """`(value - mean) / scale` for each feature, float64 [features], and each target, float64 [targets]."""

    feature_mean: Floats
    feature_scale: Floats
    target_mean: Floats
    target_scale: Floats

    @classmethod
    def fitted(cls, view: View, targets: Sequence[Target], x: NDArray[np.float32], y: NDArray[np.float32]) -> Self:
        """Mean and deviation of windows [n, L, F] and targets [n, T, H]; raises TrainingError for what is constant."""
        feature_mean, feature_scale = _moments(x, (0, 1))  # [F]
        target_mean, target_scale = _moments(y, (0, 2)) if len(targets) else (np.empty(0), np.empty(0))  # [T]
        _check("features", view.features, feature_mean, feature_scale)
        _check("targets", targets, target_mean, target_scale)
        return cls(feature_mean, feature_scale, target_mean, target_scale)

    def features(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows [n, L, F] as the net sees them."""
        return np.asarray((x - self.feature_mean) / self.feature_scale, np.float32)

    def targets(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Targets [n, T, H] as the net tells them."""
        return np.asarray((y - self.target_mean[:, None]) / self.target_scale[:, None], np.float32)

    def view_of(self, view: View) -> View:
        """The view with these means and scales."""
        return view.model_copy(update={"features": _with(view.features, self.feature_mean, self.feature_scale)})

    def targets_of(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """The targets with these means and scales."""
        return _with(targets, self.target_mean, self.target_scale)


def _moments(values: NDArray[np.float32], axes: tuple[int, int]) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore", over="ignore"):
        return values.mean(axis=axes, dtype=np.float64), values.std(axis=axes, dtype=np.float64)


def _check(what: str, given: Sequence[Scaled], mean: Floats, scale: Floats) -> None:
    if unknown := [each.name for each, value in zip(given, mean + scale, strict=True) if not np.isfinite(value)]:
        raise TrainingError(f"{what} that are not finite: {', '.join(unknown)}")
    if constant := [each.name for each, value in zip(given, scale, strict=True) if value < _LEAST_SCALE]:
        raise TrainingError(f"{what} that are constant: {', '.join(constant)}; take them out of the recipe")


def _with(given: Sequence[_Scaled], mean: Floats, scale: Floats) -> tuple[_Scaled, ...]:
    return tuple(
        each.model_copy(update={"mean": float(m), "scale": float(s)})
        for each, m, s in zip(given, mean, scale, strict=True)
    )
