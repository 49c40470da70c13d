"""Data sets that were put aside to train on, such as what a database held on a day: the same for every later step."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import Field, ValidationError

from contract.config import Config
from contract.windows import Steps
from models.data.arrays import read_array, read_text, write_arrays
from models.data.dataset import Dataset, Incident, Table
from models.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from models.options import Options

PREFIX: Final = "kept:"
_NAME: Final = re.compile(r"kept:[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")
_ABOUT_FILE: Final = "dataset.json"


class _Incident(Config):
    kind: str = Field(description="as the source calls it")
    start_ms: int = Field(description="UTC ms")
    end_ms: int = Field(description="UTC ms, after it")
    what: str = Field(description="what it hit")


class _Table(Config):
    key: str = Field(description="what it is of")
    incidents: tuple[_Incident, ...] = Field(description="what was wrong")


class _Kept(Config):
    title: str = Field(description="as in Dataset")
    origin: str = Field(description="as in Dataset")
    licence: str = Field(description="as in Dataset")
    step_s: float = Field(ge=0.001, description="seconds")
    units: dict[str, str | None] = Field(min_length=1, description="by column, in order")
    tables: tuple[_Table, ...] = Field(max_length=1000, description="in order")


def keep(dataset: Dataset, options: Options) -> str:
    """Puts a data set aside; the name that `load` knows it by."""
    name = f"{PREFIX}{_NOT_IN_NAMES.sub('-', dataset.name).strip('-.')[:180]}-{dataset.sha256[:12]}"
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for place, table in enumerate(dataset.tables):
        arrays |= {
            f"{place}-at_ms": np.asarray(table.steps.at_ms, np.int64),
            f"{place}-values": np.asarray(table.steps.values, np.float64),
            f"{place}-is_spoilt": np.asarray(table.steps.is_spoilt, np.bool_),
        }
    write_arrays(_path(name, options), arrays, {_ABOUT_FILE: _described(dataset).model_dump_json()})
    return name


def names(options: Options) -> list[str]:
    """What has been put aside."""
    found = (f"{PREFIX}{path.stem}" for path in sorted((options.data / "kept").glob("*.npz")))
    return [name for name in found if _NAME.fullmatch(name)]


def load(name: str, options: Options) -> Dataset:
    """What was put aside under a name; raises DataError."""
    path = _path(name, options)
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise DataError(f"data set {name!r}: cannot be read at {path}: {exc.strerror}") from exc
    try:
        kept = _Kept.model_validate(json.loads(read_text(content, _ABOUT_FILE, path.name)))
    except (ValueError, ValidationError, RecursionError) as exc:
        raise DataError(f"{path}: {_ABOUT_FILE} is not as this version writes it") from exc
    tables = tuple(
        Table(table.key, _steps(content, place, len(kept.units), path.name), _incidents(table))
        for place, table in enumerate(kept.tables)
    )
    return Dataset(name, kept.title, kept.origin, kept.licence, kept.step_s, kept.units, tables)


def _described(dataset: Dataset) -> _Kept:
    return _Kept(
        title=dataset.title,
        origin=dataset.origin,
        licence=dataset.licence,
        step_s=dataset.step_s,
        units=dict(dataset.units),
        tables=tuple(
            _Table(
                key=table.key,
                incidents=tuple(
                    _Incident(kind=each.kind, start_ms=each.start_ms, end_ms=each.end_ms, what=each.what)
                    for each in table.incidents
                ),
            )
            for table in dataset.tables
        ),
    )


def _steps(content: bytes, place: int, width: int, origin: str) -> Steps:
    at_ms = read_array(content, f"{place}-at_ms", "i", origin)
    values = read_array(content, f"{place}-values", "f", origin)
    is_spoilt = read_array(content, f"{place}-is_spoilt", "b", origin)
    shape = (len(at_ms), width) if at_ms.ndim == 1 else None
    if values.shape != shape or is_spoilt.shape != shape or (np.diff(at_ms) <= 0).any():
        raise DataError(f"{origin}: table {place} is not as this version writes it")
    return Steps(at_ms, values, is_spoilt)


def _incidents(table: _Table) -> tuple[Incident, ...]:
    return tuple(Incident(each.kind, each.start_ms, each.end_ms, each.what) for each in table.incidents)


def _path(name: str, options: Options) -> Path:
    if not _NAME.fullmatch(name):
        raise DataError(f"data set {name!r}: allowed are names such as {PREFIX}plant-2026 of letters, digits, . _ -")
    return options.data / "kept" / f"{name.removeprefix(PREFIX)}.npz"
