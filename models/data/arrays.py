"""Plain arrays in a file, as `numpy.savez` writes them: never a pickle, neither written nor read."""

from __future__ import annotations

import io
import math
import os
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.data.packages import read_member
from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_BYTES: Final = 1 << 30
_OUR_MAX_TEXT: Final = 1 << 24


def read_array(content: bytes, name: str, kind: str, origin: str) -> Any:  # noqa: ANN401 - an array of whatever kind is asked for
    """An array out of a file's bytes, of a kind as numpy's `dtype.kind` has it; raises DataError."""
    member = read_member(content, f"{name}.npy", origin, at_most=_MAX_BYTES)
    try:
        shape, is_fortran, dtype, begin = _header(member)
    except (ValueError, EOFError, OSError, RecursionError) as exc:
        raise DataError(f"{origin}: {name} cannot be read: {str(exc).splitlines()[0]}") from exc
    # Held against what is there: numpy would make room for whatever the header says.
    if dtype.kind != kind or math.prod(shape) * dtype.itemsize != len(member) - begin or is_fortran:
        raise DataError(f"{origin}: {name} is not of the kind or size that it should be")
    return np.frombuffer(member, dtype, offset=begin).reshape(shape).copy()


def _header(member: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order and type of an array, and where its numbers begin."""
    file = io.BytesIO(member)
    if (version := np.lib.format.read_magic(file)) != (1, 0):  # type: ignore[no-untyped-call]  # numpy 1.26 has no types for it
        raise ValueError(f"format {version}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]  # as above
    return shape, is_fortran, dtype, file.tell()


def read_text(content: bytes, name: str, origin: str) -> str:
    """A text beside the arrays; raises DataError."""
    try:
        return read_member(content, name, origin, at_most=_OUR_MAX_TEXT).decode()
    except UnicodeDecodeError as exc:
        raise DataError(f"{origin}: {name} is not UTF-8") from exc


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], texts: Mapping[str, str]) -> None:
    """The file, at once or not at all; raises DataError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(part, arrays, texts)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as exc:
        raise DataError(f"{path}: cannot be written: {exc.strerror}") from exc


def _write(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], texts: Mapping[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)  # type: ignore[no-untyped-call]  # numpy 1.26 has no types for it
        for name, text in texts.items():
            archive.writestr(name, text)
