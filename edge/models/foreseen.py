"""What models will be, by what lies in their directories now: for births, estimates and `check`, before any is run."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from contract.card import SIGNATURE_FILE
from contract.manifest import ForecastOutput, Manifest
from edge.errors import ModelError
from edge.models.package import Package, check_inputs, read_package, stride_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from contract.manifest import Feature
    from edge.config import AgentConfig
    from edge.models.config import ModelConfig
    from edge.reading import MetricInfo


def foresee(
    config: ModelConfig, trusted_keys: Sequence[Path], metrics_of: Callable[[str], Sequence[MetricInfo] | None]
) -> Package:
    """A model that fits the agent, not yet tried; raises ModelError."""
    package = read_package(config.directory, trusted_keys)
    check_inputs(package.manifest, config, metrics_of)
    return package


def foreseen(config: AgentConfig) -> Iterator[tuple[ModelConfig, Manifest]]:
    """Those of a configuration's models that lie where they should, and fit."""
    for model in config.models:
        with suppress(ModelError):
            yield model, foresee(model, config.inference.trusted_keys, _metrics(config).get).manifest


def explain(config: AgentConfig, model: ModelConfig) -> list[str]:
    """Lines for `python -m edge check`; raises ModelError where it would be refused before it is tried."""
    package = foresee(model, config.inference.trusted_keys, _metrics(config).get)
    manifest = package.manifest
    window = manifest.window
    forms = ", ".join(f"{each.form} ({each.size_bytes / 1024:.3g} KiB)" for each in manifest.tflite_files)
    every = f"every {stride_ms(manifest, model) / 1000:g} s, by the {window.length} steps of {window.step_s:g} s before"
    computed = [_computed(each) for each in manifest.features if each.transform != "value"]
    return [
        f"{manifest.name} {manifest.version}, {manifest.output.kind}; {forms}",
        _signed(package),
        f"{every}; no result where over {window.max_bad_share:.0%} is missing",
        *(
            f"{each.name} is {model.inputs[each.source]}, the {each.resample} of a step" + _unit(each.unit)
            for each in manifest.inputs
        ),
        *([f"computed: {', '.join(computed)}"] if computed else []),
        _told(manifest),
    ]


def _signed(package: Package) -> str:
    if package.signed_by is not None:
        return f"signed by {package.signed_by}, as inference.trusted_keys asks"
    has_one = os.path.lexists(package.directory / SIGNATURE_FILE)
    return f"{'its signature is not checked' if has_one else 'not signed'}: inference.trusted_keys names no key"


def _computed(feature: Feature) -> str:
    return f"{feature.name} ({' of '.join(filter(None, (feature.transform, ' and '.join(feature.of))))})"


def _told(manifest: Manifest) -> str:
    output = manifest.output
    if isinstance(output, ForecastOutput):
        ahead = ", ".join(f"{steps * manifest.window.step_s:g} s" for steps in output.horizons)
        quantiles = ", ".join(f"p{100 * quantile:g}" for quantile in output.quantiles)
        return f"tells {', '.join(target.name for target in output.targets)} in {ahead}: {quantiles}"
    clear = output.threshold if output.clear is None else output.clear
    return f"an anomaly above {output.threshold:g}, until below {clear:g}; sent before all else"


def _metrics(config: AgentConfig) -> dict[str, Sequence[MetricInfo]]:
    return {source.name: source.metrics() for source in config.sources}


def _unit(unit: str | None) -> str:
    return "" if unit is None else f", in {unit}"
