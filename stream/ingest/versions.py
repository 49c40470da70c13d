"""Versions of a series: what a birth announced, and whether it is something else than before. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from contract.datatypes import DataType
from stream.ingest.batch import NUMERIC, TEXT, SeriesKey

if TYPE_CHECKING:
    import pyarrow as pa


class Announced(NamedTuple):
    """What a birth said of a metric; `at_ms` (UTC) is when the node made the birth."""

    datatype: int
    unit: str | None
    at_ms: int | None


class Version(NamedTuple):
    """A version of a series; readings sampled from `valid_from_ms` (UTC) on belong to it, None: from the beginning."""

    series_id: int
    version: int
    datatype: int
    unit: str | None
    valid_from_ms: int | None

    def told(self) -> dict[str, int | str | None]:
        """For an event's detail."""
        return {"datatype": self.datatype, "unit": self.unit}

    def described(self) -> str:
        """For a line of the log."""
        try:
            name = DataType(self.datatype).name
        except ValueError:
            name = f"type {self.datatype}"
        return f"{name} {self.unit}" if self.unit else name


def announced_of(births: pa.Table, kind: str) -> dict[SeriesKey, list[Announced]]:
    """What births said of each series, in order; a repetition of the last word counts once."""
    said: dict[SeriesKey, list[Announced]] = {}
    names = ("group_id", "node_id", "device_id", "metric")
    keys = zip(*(births[name].to_pylist() for name in names), strict=True)
    words = zip(*(births[name].to_pylist() for name in ("datatype", "unit", "announced_at_ms")), strict=True)
    for (group_id, node_id, device_id, metric), word in zip(keys, words, strict=True):
        told = said.setdefault(SeriesKey(group_id, node_id, device_id, metric, kind), [])
        if not told or told[-1][:2] != word[:2]:
            told.append(Announced(*word))
    return said


def next_version(newest: Version, told: Announced) -> tuple[int, str | None, int, int] | None:
    """Datatype, unit, number and beginning of the version that an announcement makes; None when it makes none.

    A birth without a unit takes none away. One of before the newest version began is history that is read again.
    """
    is_same_unit = told.unit is None or told.unit == newest.unit
    if told.at_ms is None or (told.datatype == newest.datatype and is_same_unit):
        return None
    if newest.valid_from_ms is not None and told.at_ms <= newest.valid_from_ms:
        return None
    unit = newest.unit if told.unit is None else told.unit
    return told.datatype, unit, newest.version + 1, told.at_ms


def other_kind(key: SeriesKey) -> SeriesKey:
    """The same metric as a text where it is a number, and the other way round."""
    return key._replace(kind=TEXT if key.kind == NUMERIC else NUMERIC)
