"""A model as it lies in a directory: its manifest, and what the agent makes of it."""

from __future__ import annotations

import hashlib
import math
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from contract.config import ConfigError
from contract.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, ForecastOutput, Manifest, parse_manifest
from edge.errors import ModelError
from edge.inference.settings import DIRECT, FORECAST, RECONSTRUCTION, FormSettings, ModelSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from edge.models.config import ModelConfig
    from edge.reading import MetricInfo

Stamp: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Package:
    """A manifest and where its files lie; two of the same digest are the same model."""

    manifest: Manifest
    directory: Path
    digest: str


def stamp_of(directory: Path) -> Stamp:
    """What changes when a model is put into a directory, or its files are touched; symbolic links are followed."""
    try:
        place = directory.resolve(strict=True)
        return place, *sorted((entry.name, *_change_of(entry)) for entry in place.iterdir() if entry.is_file())
    except (OSError, RuntimeError) as exc:  # RuntimeError: links in a ring, until Python 3.13
        return (str(exc),)


def read_package(directory: Path) -> Package:
    """The model in a directory, its files not yet looked at; raises ModelError."""
    try:
        # Resolved once: what a link points to may change at any time.
        place = directory.resolve(strict=True)
        path = place / MANIFEST_FILE
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path}: is not a file")
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except (OSError, RuntimeError) as exc:
        raise ModelError(f"{directory / MANIFEST_FILE}: cannot be read: {getattr(exc, 'strerror', exc)}") from exc
    try:
        manifest = parse_manifest(text, str(path))
    except ConfigError as exc:
        raise ModelError("; ".join(str(exc).splitlines())) from exc
    return Package(manifest, place, hashlib.sha256(text).hexdigest())


def check_inputs(
    manifest: Manifest, config: ModelConfig, metrics_of: Callable[[str], Sequence[MetricInfo] | None]
) -> None:
    """Raises ModelError unless each input is mapped to a metric that the agent has, in the manifest's unit."""
    wanted = [each.name for each in manifest.inputs]
    if missing := [name for name in wanted if name not in config.inputs]:
        raise ModelError(f"inputs says nothing of {', '.join(missing)}, which {manifest.name} {manifest.version} needs")
    if unknown := [name for name in config.inputs if name not in wanted]:
        raise ModelError(f"inputs has {', '.join(unknown)}: {manifest.name} takes {', '.join(wanted)}")
    for each in manifest.inputs:
        source, metric = config.address(each.name)
        info = next((info for info in metrics_of(source) or () if info.name == metric), None)
        if info is None:
            raise ModelError(f"input {each.name}: there is no {config.inputs[each.name]} in this agent")
        # A unit that nobody names cannot be held against anything.
        if None not in {each.unit, info.unit} and each.unit != info.unit:
            raise ModelError(f"input {each.name}: {source}/{metric} is in {info.unit}, the model takes {each.unit}")


def settings_of(package: Package, config: ModelConfig, form: str | None = None) -> ModelSettings:
    """What the models' process is told of it, of one form alone where it is known; raises ModelError."""
    manifest = package.manifest
    wanted = form or (None if config.form == "fastest" else config.form)
    forms = [each for each in manifest.files if wanted in {None, each.form}]
    if not forms:
        raise ModelError(f"{manifest.name} {manifest.version} has no form {wanted}")
    hold_steps = tuple(hold_steps_of(manifest))
    output = _output(manifest)
    targets: Mapping[str, tuple[float, ...]] = _targets(manifest)
    return ModelSettings(
        key=f"{config.name} {package.digest} {form or ''}",
        directory=str(package.directory),
        forms=tuple(FormSettings(each.form, each.file, each.sha256, each.size_bytes) for each in forms),
        length=manifest.window.length,
        rows=manifest.window.length + max(hold_steps),
        inputs=tuple(each.name for each in manifest.inputs),
        mean=tuple(each.mean for each in manifest.inputs),
        scale=tuple(each.scale for each in manifest.inputs),
        hold_steps=hold_steps,
        max_bad_share=manifest.window.max_bad_share,
        output=output,
        out_shape=manifest.output.shape if isinstance(manifest.output, ForecastOutput) else (),
        out_mean=targets["mean"],
        out_scale=targets["scale"],
        out_since=tuple(int(index) for index in targets["since"]),
    )


def hold_steps_of(manifest: Manifest) -> list[int]:
    """For each input how many steps its value stands for those that have none."""
    return [math.floor(each.hold_s * 1000 / manifest.window.step_ms + 1e-9) for each in manifest.inputs]


def stride_ms(manifest: Manifest, config: ModelConfig) -> int:
    """Milliseconds from one window to the next: whole steps."""
    step_ms = manifest.window.step_ms
    every_s = config.every_s or manifest.window.step_s
    return max(1, round(every_s * 1000 / step_ms)) * step_ms


def _output(manifest: Manifest) -> str:
    if isinstance(manifest.output, ForecastOutput):
        return FORECAST
    return RECONSTRUCTION if manifest.output.score == "reconstruction" else DIRECT


def _targets(manifest: Manifest) -> dict[str, tuple[float, ...]]:
    """By number of the output: the target's mean, its scale, and the index of the input from which it is a change."""
    if not isinstance(manifest.output, ForecastOutput):
        return {"mean": (), "scale": (), "since": ()}
    indices = {each.name: index for index, each in enumerate(manifest.inputs)}
    _, horizons, quantiles = manifest.output.shape
    each_target = [target for target in manifest.output.targets for _ in range(horizons * quantiles)]
    return {
        "mean": tuple(target.mean for target in each_target),
        "scale": tuple(target.scale for target in each_target),
        "since": tuple(-1 if target.since is None else indices[target.since] for target in each_target),
    }


def _change_of(entry: Path) -> tuple[int, int, int]:
    found = entry.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
