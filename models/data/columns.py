"""Columns out of a CSV file's bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import csv

from models.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contract.windows import Floats, Times

_MISSING: Final = ["", "NA", "NaN", "nan", "null"]
_TYPES: Final = {"number": pa.float64(), "text": pa.string(), "time": pa.timestamp("ms", tz="UTC"), "date": pa.date32()}


def columns(content: bytes, kinds: Mapping[str, str], origin: str, *, delimiter: str = ",", skip: int = 0) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The named columns (number, text, time or date) as a pyarrow table; raises DataError."""
    try:
        table = csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(skip_rows=skip),
            parse_options=csv.ParseOptions(delimiter=delimiter),
            convert_options=csv.ConvertOptions(
                column_types={name: _TYPES[kind] for name, kind in kinds.items()},
                include_columns=list(kinds),
                null_values=_MISSING,
                strings_can_be_null=True,
            ),
        )
    except (pa.ArrowException, ValueError, KeyError) as exc:
        raise DataError(f"{origin}: cannot be read: {exc}") from exc
    if any(table[name].null_count for name, kind in kinds.items() if kind != "number"):
        raise DataError(f"{origin}: has rows without a name or a time")
    return table


def numbers(table: Any, names: list[str]) -> Floats:  # noqa: ANN401 - as above
    """Columns as float64 [rows, columns], NaN where there is no number or an infinite one."""
    stacked: Floats = np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)
    stacked[~np.isfinite(stacked)] = np.nan
    return stacked


def times(table: Any, name: str) -> Times:  # noqa: ANN401 - as above
    """A column of times or dates as int64 [rows], UTC ms."""
    found: Times = table[name].cast(pa.timestamp("ms")).to_numpy().astype("datetime64[ms]").astype(np.int64)
    return found
