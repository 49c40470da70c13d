"""A model that runs: windows in, forecasts or scores out, many at once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

import numpy as np

from contract.manifest import AnomalyOutput, ForecastOutput
from contract.windows import absolute
from stream.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from contract.manifest import Manifest
    from contract.windows import Windows
    from stream.serving.package import Package

    Floats: TypeAlias = NDArray[np.float64]
    Singles: TypeAlias = NDArray[np.float32]

_Output = TypeVar("_Output", ForecastOutput, AnomalyOutput)

# Beyond that a net of our size gains nothing, and its inner states take memory.
_AT_ONCE: Final = 2048


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A package whose model is loaded and was tried."""

    package: Package
    _run: Callable[[Singles], Singles]

    @classmethod
    def load(cls, package: Package) -> Self:
        """Loads and tries it; raises ModelError. The first one of a process takes seconds: it imports TensorFlow."""
        made = cls(package, _function_of(_keras_model(package), package))
        made._try()
        return made

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        return self.package.manifest

    def forecast(self, windows: Windows) -> Floats:
        """In the targets' units, [windows, targets, horizons, quantiles], NaN where the window is not whole."""
        output = self._output(ForecastOutput)
        values = np.full((len(windows.end_ms), *output.shape), np.nan)
        whole = windows.is_whole
        told = self._run(windows.features[whole].astype(np.float32)).astype(np.float64)
        values[whole] = absolute(self.manifest, output.targets, told, windows.last[whole])
        return values

    def score(self, windows: Windows) -> tuple[Floats, Floats]:
        """How unusual each window is, [windows], and each feature's share of that, [windows, features].

        NaN where the window is not whole; a score that the model tells itself has no shares.
        """
        output = self._output(AnomalyOutput)
        scores = np.full(len(windows.end_ms), np.nan)
        shares = np.full((len(scores), len(self.manifest.features)), np.nan)
        whole = windows.is_whole
        features = windows.features[whole].astype(np.float32)
        told = self._run(features).astype(np.float64)
        if output.score == "direct":
            scores[whole] = told.reshape(-1)
        else:
            errors = self._errors(told, features)  # [whole, features]
            scores[whole] = errors.mean(axis=1)
            total = errors.sum(axis=1, keepdims=True)
            shares[whole] = np.divide(errors, total, out=np.zeros_like(errors), where=total > 0)
        return scores, shares

    def _errors(self, told: Floats, features: Singles) -> Floats:
        """Mean square of the difference, as the model has it, for each feature."""
        scale = np.asarray([each.scale for each in self.manifest.features])
        return np.asarray(np.square((told - features) / scale).mean(axis=1), np.float64)

    def _output(self, kind: type[_Output]) -> _Output:
        output = self.manifest.output
        if not isinstance(output, kind):
            raise ModelError(f"{self.package.title}: is for {output.kind}: it was asked for something else")
        return output

    def _try(self) -> None:
        """Two windows such as the manifest tells of, which must come out in its shape."""
        features = self.manifest.features
        shape = (2, self.manifest.window.length, len(features))
        mean, scale = (np.asarray([getattr(each, name) for each in features]) for name in ("mean", "scale"))
        window = np.random.default_rng(0).normal(size=shape) * scale + mean
        try:
            told = self._run(window.astype(np.float32))
        except Exception as exc:  # whatever a graph can do wrong; there is no base of TensorFlow's errors
            raise ModelError(f"{self.package.title}: fails on a trial window: {_first_line(exc)}") from exc
        if told.shape != (wanted := (2, *_shape_of(self.manifest))):
            raise ModelError(f"{self.package.title}: gives {told.shape} for 2 windows: the manifest says {wanted}")
        if not np.isfinite(told).all():
            raise ModelError(f"{self.package.title}: gives numbers that are not finite for a trial window")


def _shape_of(manifest: Manifest) -> tuple[int, ...]:
    """What the model gives for a window."""
    if isinstance(manifest.output, ForecastOutput):
        return manifest.output.shape
    return (1,) if manifest.output.score == "direct" else (manifest.window.length, len(manifest.features))


def _keras_model(package: Package) -> Any:  # noqa: ANN401 - Keras is untyped
    from stream.serving.tensorflow import keras  # noqa: PLC0415 - seconds and 400 MB that only who serves should pay

    with tempfile.TemporaryDirectory(prefix="headwater-model-") as place:
        # Keras looks at the name; and what was checked is what is loaded.
        path = Path(place, "model.keras")
        path.write_bytes(package.content)
        try:
            model = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as exc:  # Keras raises whatever its parts do
            raise ModelError(f"{package.title}: cannot be loaded: {_first_line(exc)}") from exc
    wanted = (None, package.manifest.window.length, len(package.manifest.features))
    # One that was never called has none.
    if (found := getattr(model, "input_shape", None)) != wanted:
        raise ModelError(f"{package.title}: takes {found}: the manifest says {wanted}")
    return model


def _function_of(model: Any, package: Package) -> Callable[[Singles], Singles]:  # noqa: ANN401 - as above
    from stream.serving.tensorflow import tf  # noqa: PLC0415 - as above

    manifest = package.manifest
    signature = tf.TensorSpec((None, manifest.window.length, len(manifest.features)), tf.float32)
    # Traced once, whatever the number of windows.
    try:
        traced = tf.function(lambda windows: model(windows, training=False)).get_concrete_function(signature)
    except Exception as exc:  # as when it is loaded
        raise ModelError(f"{package.title}: cannot be traced: {_first_line(exc)}") from exc

    def run(windows: Singles) -> Singles:
        parts = [traced(tf.constant(windows[at : at + _AT_ONCE])).numpy() for at in range(0, len(windows), _AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, *_shape_of(manifest)), np.float32)

    return run


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [""])[0][:300] or type(exc).__name__
