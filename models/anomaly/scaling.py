"""What is 1 of a feature to an anomaly model: what the others do not foretell of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from models.scaler import Scaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.recipe import AnomalyRecipe
    from models.samples import Samples

# What others foretell wholly is not weighed without end: int8 has 256 steps for a feature's whole range.
_LEAST_SHARE: Final = 0.1
_RIDGE: Final = 1e-6
_MOST_ROWS: Final = 20_000


def scaler_of(recipe: AnomalyRecipe, train: Samples) -> Scaler:
    """Where a flow is known by a pump's speed, little is much.

    By the standard deviations alone, a pump that lifts a tenth less than its speed says would hardly count. Raises
    TrainingError where a feature is constant.
    """
    plain = Scaler.fitted(recipe.view, (), train.x, train.y)
    rows = plain.features(train.x).reshape(-1, len(recipe.view.features)).astype(np.float64)  # [n * L, F]
    share = unforeseen(rows[:: -(-len(rows) // _MOST_ROWS)])  # [F]
    return replace(plain, feature_scale=plain.feature_scale * np.maximum(share, _LEAST_SHARE))


def unforeseen(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of standardized features [n, F] the share (of the standard deviation) that the others do not foretell, [F].

    By linear regression on all others at the same step, with a trifle of ridge for those that are the same.
    """
    covariance = rows.T @ rows / len(rows)  # [F, F]
    precision = np.linalg.inv(covariance + _RIDGE * np.eye(len(covariance)))  # [F, F]
    return np.asarray(np.sqrt(np.minimum(1 / np.diag(precision), 1.0)), np.float64)
