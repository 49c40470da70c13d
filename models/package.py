"""What a device gets: a directory with a manifest and the model's forms, signed where there is a key."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract.card import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MAX_MODEL_BYTES,
    SIGNATURE_FILE,
    ModelCard,
    ModelFile,
    Training,
)
from models.errors import ModelsError
from models.signing import private_key, signature_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from contract.card import Form

KERAS_FILE: Final = "model.keras"
_DIGITS: Final = 8


def version_of(trained_at: dt.datetime, weights: Sequence[NDArray[np.generic]]) -> str:
    """`YYYYMMDD.HHMM-` of when it was trained (UTC), and the first digits of the weights' digest."""
    digest = hashlib.sha256()
    for each in weights:
        digest.update(each.tobytes())
    return f"{trained_at.astimezone(dt.UTC):%Y%m%d.%H%M}-{digest.hexdigest()[:_DIGITS]}"


def training_of(trained: Mapping[str, Any]) -> Training:
    """What `trained.json` says of what was learnt from, as a manifest does; raises ModelsError where it does not."""
    try:
        data = trained["data"]
        return Training(
            from_at=data["from_at"],
            to_at=data["to_at"],
            windows=trained["windows"]["train"],
            source=f"{data['origin']}"[:200],
            sha256=data["sha256"],
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelsError(f"trained.json: is not what a training writes: {' '.join(str(exc).split())[:200]}") from exc


def files_of(forms: Mapping[Form, bytes], keras: bytes | None) -> dict[str, tuple[ModelFile, bytes]]:
    """What the manifest says of each file, and the file, by its name; `keras` is the float model as a .keras."""
    contents = {f"{form}.tflite": (form, content) for form, content in forms.items()}
    files = {name: (_file(name, form, content), content) for name, (form, content) in contents.items()}
    if keras is not None:
        files[KERAS_FILE] = (_file(KERAS_FILE, "float32", keras, runtime="tensorflow"), keras)
    return files


def write_package(place: Path, card: ModelCard, contents: Mapping[str, bytes], key: Path | None) -> None:
    """Replaces what lies at `place` by the whole package; what was there stays until that one is written.

    `contents` are the files that the card names; `key` signs it. Raises ModelsError, SignatureError among them.
    """
    signer = private_key(key) if key else None
    manifest = manifest_bytes(card)
    files = {**contents, MANIFEST_FILE: manifest}
    if signer:
        files[SIGNATURE_FILE] = signature_of(manifest, signer)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        unfinished.chmod(0o755)
        for name, content in files.items():
            _write(unfinished / name, content)
        _exchange(unfinished, place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def manifest_bytes(card: ModelCard) -> bytes:
    """The manifest as it is written and signed: what has its default is left out. Raises ModelsError if too long."""
    document = card.model_dump(mode="json", exclude_defaults=True)
    content = json.dumps(document, indent=1, allow_nan=False).encode() + b"\n"
    if len(content) > MAX_MANIFEST_BYTES:
        raise ModelsError(f"{card.name}: a manifest of {len(content)} bytes: allowed are {MAX_MANIFEST_BYTES}")
    return content


def _file(name: str, form: Form, content: bytes, runtime: str = "tflite") -> ModelFile:
    if len(content) > MAX_MODEL_BYTES:
        raise ModelsError(f"{name}: has {len(content)} bytes: allowed are {MAX_MODEL_BYTES}")
    digest = hashlib.sha256(content).hexdigest()
    return ModelFile.model_validate(
        {"form": form, "file": name, "sha256": digest, "size_bytes": len(content), "runtime": runtime}
    )


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _exchange(new: Path, place: Path) -> None:
    """Puts the new directory in place of the old one. Between both moves there is none: never a part of one."""
    old = new.with_name(f"{new.name}-old")
    if place.exists():
        place.rename(old)
    new.rename(place)
    if old.exists():
        shutil.rmtree(old)
