"""Arrays as bytes and back: what a checkpoint keeps, so its layout is written down and numbered."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stream.errors import FatalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Of the layout here; what is in the arrays is numbered by whoever makes them.
_LAYOUT: Final = 1
_OPENING: Final = struct.Struct("<4sHHI")
_MAGIC: Final = b"HwSt"


def pack(arrays: Mapping[str, NDArray[Any]], number: int, made_by: str = "") -> bytes:
    """Arrays of numbers by name, of the format `number`: a header in JSON, then each as it lies in memory.

    `made_by` says with which settings they were made.
    """
    parts = [(name, np.ascontiguousarray(array)) for name, array in arrays.items()]
    described = [(name, array.dtype.newbyteorder("<").str, array.shape) for name, array in parts]
    header = json.dumps([made_by, described], separators=(",", ":")).encode()
    bodies = (array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for _, array in parts)
    return b"".join((_OPENING.pack(_MAGIC, _LAYOUT, number, len(header)), header, *bodies))


def unpack(data: bytes | bytearray, what: str, number: int, made_by: str = "") -> dict[str, NDArray[Any]] | None:
    """What `pack` made, as arrays that may be written to; None if by other settings.

    Raises FatalError for any other format.
    """
    magic, layout, found, size = _OPENING.unpack_from(data) if len(data) >= _OPENING.size else (b"", 0, 0, 0)
    if (magic, layout, found) != (_MAGIC, _LAYOUT, number):
        raise FatalError(
            f"the checkpoint's state of {what} is of format {layout}.{found}, this version of Headwater knows "
            f"{_LAYOUT}.{number}: delete the analysis' checkpoint, and make up for it by `python -m stream replay` "
            '(docs/stream.md, "Going on after a change")'
        )
    found_by, described = json.loads(bytes(data[_OPENING.size : _OPENING.size + size]))
    if found_by != made_by:
        return None
    body = bytearray(memoryview(data)[_OPENING.size + size :])
    arrays: dict[str, NDArray[Any]] = {}
    place = 0
    for name, dtype, shape in described:
        arrays[name] = np.ndarray(shape, dtype, body, place)
        place += arrays[name].nbytes
    return arrays
