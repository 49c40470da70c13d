"""A model from its files to one that can be run: bytes checked, shapes checked, tried, and the fastest form chosen."""

from __future__ import annotations

import hashlib
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edge.inference.arithmetic import NoWindowError, features_of, result_of, scaled, window_of
from edge.inference.runtime import Net, NetError
from edge.inference.settings import FORECAST, RECONSTRUCTION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge.inference.arithmetic import Bytes, Floats, Singles
    from edge.inference.settings import FormSettings, ModelSettings

_TRIALS: Final = 20
_TRIALS_S: Final = 0.3
# So many scales from the mean, a reading is to blame for a result that is not finite, and not the model.
_FAR: Final = 1000.0


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that gave good results for windows that were made up; `us` is each form's median time."""

    settings: ModelSettings
    net: Net
    form: str
    us: dict[str, float]

    def run(self, values: Floats, states: Bytes, end_ms: int) -> Singles:
        """The result for readings by step, the last of which ends at `end_ms`; raises NoWindowError and NetError."""
        window = window_of(values, states, self.settings)
        features = features_of(window, end_ms, self.settings)
        try:
            return _result(self.net, features, window[-1], self.settings)
        except NotFiniteError as exc:
            if (far := _far_off(features, self.settings)) is not None:
                raise NoWindowError(f"{far}: {exc}") from exc
            raise


class NotFiniteError(NetError):
    """Numbers of a result are none."""


def load(settings: ModelSettings) -> LoadedModel:
    """The model in that of its forms which is fastest here; raises NetError where none can be used."""
    net, form, us = fastest(settings.directory, settings.forms, lambda net: _try(net, settings))
    return LoadedModel(settings, net, form, us)


def fastest(
    directory: str, forms: Sequence[FormSettings], try_out: Callable[[Net], float]
) -> tuple[Net, str, dict[str, float]]:
    """The form that is fastest here, and each form's time; raises NetError where none can be used.

    `try_out` gives a form's time, us, and raises NetError where it is not what the manifest says.
    """
    nets: dict[str, Net] = {}
    us: dict[str, float] = {}
    faults = []
    for form in forms:
        try:
            net = Net(_content(directory, form))
            us[form.form] = try_out(net)
            nets[form.form] = net
        except NetError as exc:
            faults.append(f"{form.file}: {exc}")
    if not nets:
        raise NetError("; ".join(faults))
    chosen = min(us, key=us.__getitem__)
    return nets[chosen], chosen, us


def _content(directory: str, form: FormSettings) -> bytes:
    try:
        with (Path(directory) / form.file).open("rb") as file:
            content = file.read(form.size_bytes + 1)
    except OSError as exc:
        raise NetError(f"cannot be read: {exc.strerror}") from exc
    if len(content) != form.size_bytes:
        found = "more" if len(content) > form.size_bytes else str(len(content))
        raise NetError(f"has {found} bytes, the manifest says {form.size_bytes}")
    if (digest := hashlib.sha256(content).hexdigest()) != form.sha256:
        raise NetError(f"is not the file of the manifest: its SHA-256 is {digest[:12]}..., not {form.sha256[:12]}...")
    return content


def _check_shapes(net: Net, settings: ModelSettings) -> None:
    wanted = (1, settings.length, settings.channels)
    if net.input_shape != wanted:
        raise NetError(f"takes {_shown(net.input_shape)}, the manifest says {_shown(wanted)}")
    if settings.output == FORECAST:
        allowed = {settings.out_shape, (int(np.prod(settings.out_shape)),)}
    else:
        allowed = {(settings.length, settings.channels) if settings.output == RECONSTRUCTION else (1,)}
    if _squeezed(net.output_shape) not in {_squeezed(shape) for shape in allowed}:
        expected = " or ".join(sorted(_shown((1, *shape)) for shape in allowed))
        raise NetError(f"gives {_shown(net.output_shape)}, the manifest says {expected}")


def _try(net: Net, settings: ModelSettings) -> float:
    """The median time of windows around the mean, us; raises NetError where it or its result is no good."""
    _check_shapes(net, settings)
    noise = np.random.default_rng(0).standard_normal((settings.length, settings.channels))
    mean, scale = (np.asarray([getattr(each, name) for each in settings.features]) for name in ("mean", "scale"))
    windows = [np.tile(mean, (settings.length, 1)), mean + noise * scale]
    last = np.ones(len(settings.inputs))
    taken_us: list[float] = []
    began_s = time.perf_counter()
    while len(taken_us) < len(windows) or (len(taken_us) < _TRIALS and time.perf_counter() - began_s < _TRIALS_S):
        before_ns = time.perf_counter_ns()
        _result(net, windows[len(taken_us) % len(windows)], last, settings)
        taken_us.append((time.perf_counter_ns() - before_ns) / 1000)
    return statistics.median(taken_us)


def _result(net: Net, features: Floats, last: Floats, settings: ModelSettings) -> Singles:
    # What overflows is not finite, and found by that.
    with np.errstate(all="ignore"):
        model_input = scaled(features, settings)
        result = result_of(net.run(model_input), last, model_input, settings)
    if not np.isfinite(result).all():
        raise NotFiniteError(
            f"{np.count_nonzero(~np.isfinite(result))} of {result.size} numbers of its result are not finite"
        )
    return result


def _far_off(features: Floats, settings: ModelSettings) -> str | None:
    """What is further from its mean than any model was made for; None where nothing is."""
    for column, each in zip(features.T, settings.features, strict=True):
        worst = float(column[np.abs(column - each.mean).argmax()])
        if abs(worst - each.mean) > _FAR * each.scale:
            return f"{each.name} is {worst:g} in the window, over {_FAR:g} scales from its mean"
    return None


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
