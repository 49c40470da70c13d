"""`evaluation.json`: what an evaluation leaves for the package's manifest, the registry and the report.

Whatever the kind of model, the document has these keys; the rest is the kind's own:

- `kind`: `forecast`, `anomaly` or `scene`; `recipe`, `title`: of which recipe
- `quick`: whether it is good for trying alone
- `data`: `title`, `origin`, `licence`, `sha256`, `from_at`, `to_at` of the dataset
- `verdict`: what to think of it, in plain words
- `skill`: what `verdict` gives, a list of `contract.manifest.Skill`
- `headline`: the few numbers that go into a manifest
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from contract.card import Skill
from models.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.data.dataset import Dataset

EVALUATION_FILE: Final = "evaluation.json"
PREDICTIONS_FILE: Final = "predictions.npz"
REPORT_FILE: Final = "report.html"
MAX_DOCUMENT_BYTES: Final = 16 << 20


def verdict(document: Mapping[str, Any]) -> tuple[Skill, ...]:
    """Of each target the skill against the strongest of what it was compared with; raises EvaluationError."""
    try:
        return tuple(Skill.model_validate(each) for each in document["skill"])
    except (KeyError, TypeError, ValidationError) as exc:
        raise EvaluationError(f"{EVALUATION_FILE}: skill is not what an evaluation writes: {exc!s:.200}") from exc


def headline(document: Mapping[str, Any]) -> dict[str, float]:
    """The few numbers that a manifest shows, such as `level.pinball`; raises EvaluationError."""
    try:
        known = {str(name): value for name, value in document["headline"].items() if value is not None}
        return {name: float(value) for name, value in known.items() if math.isfinite(value)}
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EvaluationError(f"{EVALUATION_FILE}: headline is not what an evaluation writes: {exc!r:.200}") from exc


def told_of(data: Dataset) -> dict[str, str]:
    """What a document says of its data."""
    return {
        "title": data.title,
        "origin": data.origin,
        "licence": data.licence,
        "sha256": data.sha256,
        "from_at": data.from_at.isoformat(),
        "to_at": data.to_at.isoformat(),
    }


def name_of(text: str) -> str:
    """A name as manifests allow it, of any text: `tank2/level` becomes `tank2.level`."""
    return re.sub(r"[^A-Za-z0-9._-]", ".", text).lstrip("._-")[:64] or "unnamed"


def write_document(document: Mapping[str, Any], path: Path) -> None:
    """Written whole or not at all; what is not finite becomes null."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(_plain(document), indent=1, allow_nan=False) + "\n")
    part.replace(path)


def read_document(path: Path) -> dict[str, Any]:
    """A document as it was written; raises EvaluationError."""
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise EvaluationError(f"{path}: is larger than {MAX_DOCUMENT_BYTES} bytes")
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise EvaluationError(f"{path}: is not there: evaluate first") from None
    except (OSError, ValueError, RecursionError) as exc:
        raise EvaluationError(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(document, dict) or document.get("kind") not in {"forecast", "anomaly", "scene"}:
        raise EvaluationError(f"{path}: is no evaluation")
    return document


def _plain(value: Any) -> Any:  # noqa: ANN401 - a tree of anything
    """As JSON has it: numpy's numbers become Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
