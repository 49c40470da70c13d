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

    from contract.windows import Floats, Mask, Times

_MISSING: Final = ["", "NA", "NaN", "nan", "null"]
# A time says how far it is from UTC; what is called utc is in it without saying so.
_TYPES: Final = {
    "number": pa.float64(),
    "text": pa.string(),
    "time": pa.timestamp("ms", tz="UTC"),
    "utc": pa.timestamp("ms"),
    "date": pa.date32(),
}


def columns(content: bytes, kinds: Mapping[str, str], origin: str, *, delimiter: str = ",", skip: int = 0) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The named columns (number, text, time, utc or date) as a pyarrow table; raises DataError."""
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
        raise DataError(f"{origin}: cannot be read: {str(exc).splitlines()[0]}") from exc
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


def texts(table: Any, name: str) -> list[str]:  # noqa: ANN401 - as above
    """A column of texts."""
    found: list[str] = table[name].to_pylist()
    return found


def rows_by_name(table: Any, name: str) -> dict[str, Mask]:  # noqa: ANN401 - as above
    """For each text in a column, in order, which rows have it: bool [rows]."""
    found = table[name].to_numpy()
    return {str(text): found == text for text in sorted(set(found))}
