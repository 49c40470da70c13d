"""What a model has to be better than: scores without a net, from the same windows of the same features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Windows: TypeAlias = NDArray[np.float32]
    Scores: TypeAlias = NDArray[np.float32]
    Floats: TypeAlias = NDArray[np.float64]

# Of a normal distribution the standard deviation is so many median absolute deviations.
_TO_SIGMA: Final = 1.4826
_LEAST_SCALE: Final = 1e-6
_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class RobustZ:
    """How far from its median a feature is, in median absolute deviations; float64 [features] both."""

    median: Floats
    scale: Floats

    @classmethod
    def fitted(cls, x: Windows) -> Self:
        """By normal windows [n, L, F]; one that hardly ever moves counts by its standard deviation."""
        rows = x[:, -1].astype(np.float64)  # [n, F]
        median = np.median(rows, axis=0)
        mad = _TO_SIGMA * np.median(np.abs(rows - median), axis=0)
        return cls(median, np.maximum(np.where(mad > _LEAST_SCALE, mad, rows.std(axis=0)), _LEAST_SCALE))

    def newest(self, x: Windows) -> Scores:
        """Mean square over the features of the newest step, [n]."""
        return self._mean_square(x[:, -1:])

    def window(self, x: Windows) -> Scores:
        """Mean square over all of the window, [n]."""
        return self._mean_square(x)

    def _mean_square(self, x: Windows) -> Scores:
        parts = (x[at : at + _BLOCK] for at in range(0, len(x), _BLOCK))
        scores = [np.square((part - self.median) / self.scale).mean(axis=(1, 2)) for part in parts]
        return np.asarray(np.concatenate(scores), np.float32)  # [n]


@dataclass(frozen=True, slots=True, eq=False)
class PrincipalComponents:
    """What is left of a scaled window when as many linear components are taken from it as a net's code has numbers.

    The best that an autoencoder without any non-linearity can do (Baldi and Hornik 1989), and found at once; `basis`
    float32 [components, L * F].
    """

    basis: Windows

    @classmethod
    def fitted(cls, scaled: Windows, components: int) -> Self:
        """By normal windows [n, L, F] with mean 0."""
        flat = scaled.reshape(len(scaled), -1)  # [n, L * F]
        _, vectors = np.linalg.eigh(flat.T @ flat)  # [L * F, L * F], by rising eigenvalue
        return cls(np.ascontiguousarray(vectors[:, ::-1][:, :components].T, np.float32))

    def scores(self, scaled: Windows) -> Scores:
        """Mean square of what is left, [n]."""
        flat = scaled.reshape(len(scaled), -1)  # [n, L * F]
        left = flat - flat @ self.basis.T @ self.basis  # [n, L * F]
        return np.asarray(np.square(left).mean(axis=1), np.float32)
