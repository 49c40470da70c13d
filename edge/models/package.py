"""A model as it lies in a directory: its manifest, and what the agent makes of it."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeAlias

from typing_extensions import TypeVar

from contract.card import MANIFEST_FILE, MAX_MANIFEST_BYTES, SIGNATURE_FILE, ModelCard
from contract.config import ConfigError
from contract.manifest import ForecastOutput, Manifest, parse_manifest
from edge.errors import ModelError
from edge.inference.settings import (
    DIRECT,
    FORECAST,
    RECONSTRUCTION,
    FeatureSettings,
    FormSettings,
    ModelSettings,
    TargetSettings,
)
from edge.models.trust import signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from contract.card import ModelFile
    from edge.models.config import ModelConfig
    from edge.reading import MetricInfo

CardT = TypeVar("CardT", bound=ModelCard, default=Manifest)
Stamp: TypeAlias = tuple[object, ...]

MAX_SIGNATURE_BYTES: Final = 1024
# A manifest of nothing but faults would fill the log with them.
_MAX_FAULTS_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True)
class Package(Generic[CardT]):
    """A manifest and where its files lie; two of the same digest are the same model.

    `signed_by` is the trusted key that has signed it, None where signatures are not asked for.
    """

    manifest: CardT
    directory: Path
    digest: str
    signed_by: Path | None = None


def stamp_of(directory: Path) -> Stamp:
    """What changes when a model is put into a directory, or its files are touched; symbolic links are followed."""
    try:
        place = directory.resolve(strict=True)
        return place, *sorted((entry.name, *_change_of(entry)) for entry in place.iterdir() if entry.is_file())
    except (OSError, RuntimeError) as exc:  # RuntimeError: links in a ring, until Python 3.13
        return (str(exc),)


def read_package(directory: Path, trusted_keys: Sequence[Path]) -> Package:
    """The model in a directory, its files not yet looked at; raises ModelError, also for one that none has signed."""
    return read_package_of(parse_manifest, directory, trusted_keys)


def read_package_of(
    parse: Callable[[bytes, str], CardT], directory: Path, trusted_keys: Sequence[Path]
) -> Package[CardT]:
    """The same of a model whose manifest `parse` reads; raises ModelError."""
    try:
        # Resolved once: what a link points to may change at any time.
        place = directory.resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        raise ModelError(f"{directory / MANIFEST_FILE}: cannot be read: {getattr(exc, 'strerror', exc)}") from exc
    path = place / MANIFEST_FILE
    text = _content(path, MAX_MANIFEST_BYTES)
    signed_by = _signer(text, place / SIGNATURE_FILE, trusted_keys) if trusted_keys else None
    manifest = _parsed(parse, text, path)
    _check_is_for_devices(manifest)
    return Package(manifest, place, hashlib.sha256(text).hexdigest(), signed_by)


def check_inputs(
    manifest: Manifest, config: ModelConfig, metrics_of: Callable[[str], Sequence[MetricInfo] | None]
) -> None:
    """Raises ModelError unless each input is mapped to a metric that the agent has, in the manifest's unit."""
    wanted = manifest.sources
    if missing := [name for name in wanted if name not in config.inputs]:
        raise ModelError(f"inputs says nothing of {', '.join(missing)}, which {manifest.name} {manifest.version} needs")
    if unknown := [name for name in config.inputs if name not in wanted]:
        raise ModelError(f"inputs has {', '.join(unknown)}: {manifest.name} takes {', '.join(wanted)}")
    for each in manifest.inputs:
        source, metric = config.address(each.source)
        info = next((info for info in metrics_of(source) or () if info.name == metric), None)
        if info is None:
            raise ModelError(f"input {each.name}: there is no {config.inputs[each.source]} in this agent")
        # A unit that nobody names cannot be held against anything.
        if None not in {each.unit, info.unit} and each.unit != info.unit:
            raise ModelError(f"input {each.name}: {source}/{metric} is in {info.unit}, the model takes {each.unit}")


def settings_of(package: Package, config: ModelConfig, form: str | None = None) -> ModelSettings:
    """What the models' process is told of it, of one form alone where it is known; raises ModelError."""
    manifest = package.manifest
    wanted = form or (None if config.form == "fastest" else config.form)
    forms = [each for each in manifest.tflite_files if wanted in {None, each.form}]
    if not forms:
        raise ModelError(f"{manifest.name} {manifest.version} has no form {wanted}")
    return ModelSettings(
        key=f"{config.name} {package.digest} {form or ''}",
        directory=str(package.directory),
        forms=forms_of(forms),
        length=manifest.window.length,
        reach=manifest.reach,
        rows=rows_of(manifest),
        step_ms=manifest.window.step_ms,
        inputs=tuple(each.name for each in manifest.inputs),
        hold_steps=manifest.hold_steps,
        max_bad_share=manifest.window.max_bad_share,
        features=_features(manifest),
        output=_output(manifest),
        out_shape=manifest.output.shape if isinstance(manifest.output, ForecastOutput) else (),
        targets=_targets(manifest),
    )


def forms_of(files: Sequence[ModelFile]) -> tuple[FormSettings, ...]:
    """What the process is told of the files."""
    return tuple(FormSettings(each.form, each.file, each.sha256, each.size_bytes) for each in files)


def rows_of(manifest: Manifest) -> int:
    """How many steps a window needs: its own, those that its features look back, and as many as a value may stand."""
    return manifest.window.length + manifest.reach + max(manifest.hold_steps)


def stride_ms(manifest: Manifest, config: ModelConfig) -> int:
    """Milliseconds from one window to the next: whole steps."""
    step_ms = manifest.window.step_ms
    every_s = config.every_s or manifest.window.step_s
    return max(1, round(every_s * 1000 / step_ms)) * step_ms


def _output(manifest: Manifest) -> str:
    if isinstance(manifest.output, ForecastOutput):
        return FORECAST
    return RECONSTRUCTION if manifest.output.score == "reconstruction" else DIRECT


def _features(manifest: Manifest) -> tuple[FeatureSettings, ...]:
    index = {each.name: number for number, each in enumerate(manifest.inputs)}
    return tuple(
        FeatureSettings(each.name, each.transform, tuple(index[name] for name in each.of), each.mean, each.scale)
        for each in manifest.features
    )


def _targets(manifest: Manifest) -> tuple[TargetSettings, ...]:
    index = {each.name: number for number, each in enumerate(manifest.inputs)}
    return tuple(TargetSettings(each.mean, each.scale, each.relative, index[each.of[0]]) for each in manifest.targets)


def _content(path: Path, limit: int) -> bytes:
    """What is in a file, at most a byte beyond the limit; raises ModelError."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelError(f"{path}: is not a file")
            return file.read(limit + 1)
    except IsADirectoryError as exc:
        raise ModelError(f"{path}: is not a file") from exc
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror}") from exc


def _open_at_once(path: str, flags: int) -> int:
    """A pipe would be waited for, for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _signer(text: bytes, path: Path, trusted_keys: Sequence[Path]) -> Path:
    """The trusted key that has signed the manifest; raises ModelError."""
    if not os.path.lexists(path):
        raise ModelError(f"{path}: is missing: the manifest is not signed, and inference.trusted_keys asks for that")
    signature = _content(path, MAX_SIGNATURE_BYTES)
    try:
        return signer(text, signature, trusted_keys)
    except ModelError as exc:
        raise ModelError(f"{path}: {exc}") from exc


def _parsed(parse: Callable[[bytes, str], CardT], text: bytes, path: Path) -> CardT:
    try:
        return parse(text, str(path))
    except ConfigError as exc:
        lines = str(exc).splitlines()
        if other := [line for line in lines if line.startswith(f"{path}: format: found")]:
            # What else is wrong may be right in its own format.
            raise ModelError(f"{other[0]}: it is written for another version of the agent") from exc
        raise ModelError("; ".join(lines)[:_MAX_FAULTS_CHARACTERS]) from exc


def _check_is_for_devices(manifest: ModelCard) -> None:
    title = f"{manifest.name} {manifest.version}"
    if not manifest.tflite_files:
        others = ", ".join(f"{each.file} is for {each.runtime}" for each in manifest.files)
        raise ModelError(f"{title} has no file of runtime tflite, which alone runs on a device: {others}")
    if isinstance(manifest, Manifest) and manifest.window.steps != "clock":
        raise ModelError(
            f"{title} has window.steps: {manifest.window.steps}, allowed on a device: clock; which steps a market "
            "leaves out is only known afterwards"
        )


def _change_of(entry: Path) -> tuple[int, int, int]:
    found = entry.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
