"""The `quantize` stage: writes `quantization.json` and the package that devices and Spark run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from contract.manifest import Manifest
from models.errors import ModelsError
from models.evaluation.document import EVALUATION_FILE, headline, read_document, verdict
from models.options import PACKAGE, TABLES
from models.package import files_of, training_of, write_package
from models.quantization.results import QUANTIZATION_FILE
from models.quantization.showing import markdown, table_of
from models.quantization.subject import subject_of
from models.quantization.trying import try_forms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from contract.card import Form
    from models.options import Options
    from models.quantization.results import Quantization
    from models.quantization.subject import Subject
    from models.recipe import Recipe

_WORSE: Final = "worse"


def quantize(recipe: Recipe, options: Options) -> None:
    """Converts what was trained, tries it in every runtime, and makes its package; raises ModelsError."""
    place = options.work / recipe.name
    quantization, subject, forms = _quantized(recipe, options)
    document = json.dumps(quantization.to_document(), indent=1, allow_nan=False)
    (place / QUANTIZATION_FILE).write_text(document + "\n", encoding="utf-8")
    (place / TABLES).write_text(markdown([quantization]), encoding="utf-8")
    options.console.print(table_of(quantization))
    files = files_of(forms, subject.keras)
    manifest = _manifest(recipe, subject, quantization, files, _evaluation(place, options))
    contents = {name: content for name, (_, content) in files.items()}
    write_package(place / PACKAGE, manifest, contents, options.key)
    signed = "signed" if options.key else "not signed: there is no --key"
    options.console.print(
        f"{recipe.name}: {manifest.version} with {', '.join(each.file for each in manifest.files)}; {signed}",
        markup=False,
    )


def _quantized(recipe: Recipe, options: Options) -> tuple[Quantization, Subject, dict[Form, bytes]]:
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=options.console, transient=True) as progress:
        task = progress.add_task(f"{recipe.name}: windows to quantize by")
        subject = subject_of(recipe, options)

        def on_form(title: str) -> None:
            progress.update(task, description=f"{recipe.name}: {title}")

        quantization, forms = try_forms(recipe.name, subject, on_form)
    return quantization, subject, forms


def _evaluation(place: Path, options: Options) -> Mapping[str, Any] | None:
    path = place / EVALUATION_FILE
    if path.exists():
        return read_document(path)
    options.console.print(f"{path}: is not there: the package says nothing of its skill", style="yellow", markup=False)
    return None


def _manifest(
    recipe: Recipe,
    subject: Subject,
    quantization: Quantization,
    files: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
) -> Manifest:
    """Raises ModelsError where the recipe's or the evaluation's words are not such as a manifest has."""
    given = [each for each in quantization.tried if each.judged and not each.left_out]
    worse = {f"{each.form}.{_WORSE}": each.judged.worse for each in given if each.judged}
    try:
        return Manifest(
            format=1,
            name=recipe.name,
            version=subject.version,
            description=recipe.title,
            files=tuple(file for file, _ in files.values()),
            training=training_of(subject.trained),
            metrics={**(headline(evaluation) if evaluation else {}), **worse},
            skill=verdict(evaluation) if evaluation else (),
            inputs=subject.view.inputs,
            window=subject.view.window,
            features=subject.view.features,
            output=subject.output,
        )
    except ValidationError as exc:
        faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors())
        raise ModelsError(f"{recipe.name}: no manifest can be made: {faults}") from exc
