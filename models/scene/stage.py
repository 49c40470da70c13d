"""From a camera's samples to a package for it: trained, judged, in every form, with its report.

All of it lies in the directory of its name under `options.work`, as recipes have it.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from contract.scene import SceneManifest, SceneOutput
from models.errors import DataError, UsageError
from models.evaluation.document import EVALUATION_FILE, REPORT_FILE, name_of, write_document
from models.evaluation.report import write_report
from models.options import PACKAGE, TABLES
from models.package import files_of, version_of, write_package
from models.quantization.results import QUANTIZATION_FILE
from models.quantization.showing import markdown, table_of
from models.scene.database import from_database
from models.scene.documents import Made, evaluation_document, skill_of, trained_document
from models.scene.fit import SceneFit
from models.scene.page import page_of
from models.scene.samples import from_directory
from models.scene.simulated import simulated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from contract.card import Form
    from models.options import Options
    from models.scene.samples import Samples
    from models.scene.simulated import Timeline
    from models.scene.training import OnEpoch

GATE: Final = "scene-gate"
_TRAINED_FILE: Final = "trained.json"
_MODEL_FILE: Final = "model.keras"
_QUICK_EPOCHS: Final = 3


def name_of_camera(camera: str) -> str:
    """What the model of GROUP/NODE/DEVICE is called; raises UsageError."""
    if len(parts := camera.split("/")) != 3 or not all(parts):  # noqa: PLR2004 - as the message says
        raise UsageError(f"{camera!r}: allowed is GROUP/NODE/DEVICE")
    return name_of(f"scene-{'-'.join(parts)}")


def train_scene_stage(camera: str, options: Options, directory: Path | None = None) -> Path:
    """Makes the model of GROUP/NODE/DEVICE by its samples in the database, or by the JPEGs in a directory.

    Gives the directory that all of it lies in; raises ModelsError.
    """
    name = name_of_camera(camera)
    samples = from_database(camera) if directory is None else from_directory(directory, camera)
    return _make(name, samples, options)


def make_scene_gate(options: Options) -> Path:
    """Makes the model of the simulated camera, judged by incidents that are known; raises ModelsError."""
    samples, timeline = simulated(options)
    return _make(GATE, samples, options, timeline)


def _make(name: str, samples: Samples, options: Options, timeline: Timeline | None = None) -> Path:
    # TensorFlow takes seconds to import: whoever asks for what there is not is told at once.
    from models.scene.judging import judge_made_up, judge_timeline  # noqa: PLC0415 - as above
    from models.scene.training import train_scene  # noqa: PLC0415 - as above

    began_s, trained_at = time.monotonic(), dt.datetime.now(dt.UTC)
    place = options.work / name
    _prepared(place)
    fit = replace(SceneFit(), epochs=_QUICK_EPOCHS) if options.quick else SceneFit()
    with _epochs_shown(name, fit, options) as on_epoch:
        trained = train_scene(samples, fit, seed=options.seed, on_epoch=on_epoch)
    judged = judge_made_up(trained, options.seed) if timeline is None else judge_timeline(trained, timeline)
    is_made_up = timeline is None
    skill = skill_of(judged, options.seed, is_made_up=is_made_up)
    made = Made(name, samples, trained, trained_at, judged, skill, is_made_up)
    trained.net.save(place / _MODEL_FILE)
    write_document(trained_document(made, fit, options, time.monotonic() - began_s), place / _TRAINED_FILE)
    document = evaluation_document(made, options)
    write_document(document, place / EVALUATION_FILE)
    write_report(page_of(made, document, is_quick=options.quick), place / REPORT_FILE)
    for words, _ in made.verdicts:
        options.console.print(f"{name}: {words}")
    _pack(made, place, options)
    return place


def _prepared(place: Path) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DataError(f"{place}: cannot be made: {exc.strerror}") from exc


def _pack(made: Made, place: Path, options: Options) -> None:
    from models.scene.forms import forms_of  # noqa: PLC0415 - TensorFlow, as above

    quantization, forms = forms_of(made.name, made.trained, options.seed, is_quick=options.quick)
    document = json.dumps(quantization.to_document(), indent=1, allow_nan=False)
    (place / QUANTIZATION_FILE).write_text(document + "\n", encoding="utf-8")
    (place / TABLES).write_text(markdown([quantization]), encoding="utf-8")
    options.console.print(table_of(quantization))
    manifest, contents = _packed(made, forms)
    write_package(place / PACKAGE, manifest, contents, options.key)
    signed = "signed" if options.key else "not signed: there is no --key"
    files = ", ".join(each.file for each in manifest.files)
    options.console.print(f"{made.name}: {manifest.version} with {files}; {signed}", soft_wrap=True)


def _packed(made: Made, forms: Mapping[Form, bytes]) -> tuple[SceneManifest, dict[str, bytes]]:
    files = files_of(forms, None)
    threshold = made.trained.threshold
    manifest = SceneManifest(
        format=1,
        name=made.name,
        version=version_of(made.trained_at, made.trained.net.model.get_weights()),
        description=f"What {made.samples.camera} usually sees in its quiet hours",
        files=tuple(file for file, _ in files.values()),
        training=made.training,
        metrics=made.headline,
        skill=(made.skill,),
        camera=made.samples.camera,
        quiet_hours=made.samples.quiet_hours,
        side=96,
        output=SceneOutput(
            kind="scene", usual=made.trained.net.usual, threshold=threshold.level, clear=threshold.clear
        ),
    )
    return manifest, {name: content for name, (_, content) in files.items()}


@contextmanager
def _epochs_shown(name: str, fit: SceneFit, options: Options) -> Iterator[OnEpoch]:
    """A bar of epochs, which goes when the training is over."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    is_hidden = not options.console.is_terminal
    with Progress(*columns, console=options.console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task(f"training {name}", total=fit.epochs)
        yield lambda number, _train, _valid: progress.update(task, completed=number)
