"""How good a form's outputs are, in what matters to those who use them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from contract.windows import absolute
from models.anomaly.precision import ranked
from models.quantization.results import Error, Judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.recipe import ForecastRecipe
    from models.samples import Samples
    from models.scaler import Scaler

    Floats: TypeAlias = NDArray[np.float32]
    Doubles: TypeAlias = NDArray[np.float64]
    Mask: TypeAlias = NDArray[np.bool_]


class Judge(Protocol):
    """Knows held-out windows, what came after them, and what TensorFlow's float makes of them."""

    @property
    def measure(self) -> str:
        """What is measured."""

    @property
    def windows(self) -> Floats:
        """The windows as a net sees them, [n, L, F]."""

    @property
    def reference(self) -> float:
        """The measure of TensorFlow's float."""

    def judge(self, outputs: Floats) -> Judged:
        """Outputs of a net, flat [n, numbers]."""


@dataclass(frozen=True, slots=True, eq=False)
class ForecastJudge:
    """By the pinball loss in the targets' standard deviations; `told` [n, T, H, Q] is what TensorFlow told."""

    recipe: ForecastRecipe
    scaler: Scaler
    held: Samples
    told: Floats
    measure: str = "pinball"

    @property
    def windows(self) -> Floats:
        """The windows as a net sees them, [n, L, F]."""
        return self.scaler.features(self.held.x)

    @property
    def reference(self) -> float:
        """The measure of TensorFlow's float."""
        return float(self._pinball(self.told).mean())

    def judge(self, outputs: Floats) -> Judged:
        """Outputs [n, T * H * Q], scaled."""
        mean, scale = (each[:, None, None] for each in (self.scaler.target_mean, self.scaler.target_scale))
        told = np.sort(outputs.reshape(self.told.shape) * scale + mean, axis=-1)  # [n, T, H, Q]
        by_target = self._pinball(told)
        worse = float((by_target / self._pinball(self.told)).max() - 1)
        return Judged(float(by_target.mean()), worse, self._errors(told))

    def _pinball(self, told: Floats | Doubles) -> Doubles:
        """For each target, [T]."""
        shares = np.asarray(self.recipe.quantiles)
        error = (self.held.y[..., None] - told) / self.scaler.target_scale[:, None, None]  # [n, T, H, Q]
        return np.asarray(np.maximum(shares * error, (shares - 1) * error).mean(axis=(0, 2, 3)), np.float64)

    def _errors(self, told: Doubles) -> tuple[Error, ...]:
        view, targets, last = self.recipe.view, self.recipe.targets, self.held.last
        away = np.abs(
            absolute(view, targets, told, last) - absolute(view, targets, self.told.astype(np.float64), last)
        )  # [n, T, H, Q]
        return tuple(
            Error(target.name, target.unit, float(away[:, place].max()), float(away[:, place].mean()))
            for place, target in enumerate(targets)
        )


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyJudge:
    """By how well incidents are detected; `windows` are scaled, `scores` [n] TensorFlow's, `is_incident` [n] true."""

    windows: Floats
    scores: Floats
    is_incident: Mask
    threshold: float
    measure: str = "average_precision"

    @property
    def reference(self) -> float:
        """The measure of TensorFlow's float."""
        return ranked(self.scores, self.is_incident).average_precision()

    def judge(self, outputs: Floats) -> Judged:
        """Outputs [n, L * F], scaled."""
        away = outputs.reshape(self.windows.shape) - self.windows  # [n, L, F]
        scores = np.square(away, dtype=np.float64).mean(axis=(1, 2)).astype(np.float32)  # [n]
        return detection(scores, self.scores, self.is_incident, self.threshold)


def detection(scores: Floats, in_float: Floats, is_incident: Mask, threshold: float) -> Judged:
    """By average precision, and by F1 at the threshold, both by window; `worse` is the worse of them.

    `scores` [n] are a form's, `in_float` [n] TensorFlow's. A threshold that float never reaches in an incident judges
    nothing.
    """
    value, reference = (ranked(each, is_incident).average_precision() for each in (scores, in_float))
    f1, f1_reference = (_f1(each > threshold, is_incident) for each in (scores, in_float))
    worse = max(1 - value / reference, 1 - f1 / f1_reference if f1_reference else 0.0)
    error = np.abs(scores - in_float)
    return Judged(value, worse, (Error("score", None, float(error.max()), float(error.mean())),))


def _f1(told: Mask, is_incident: Mask) -> float:
    right = np.count_nonzero(told & is_incident)
    return 2 * right / max(np.count_nonzero(told) + np.count_nonzero(is_incident), 1)
