"""Readings out of a running Headwater database, brought to the steps that a recipe's view wants."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import numpy as np
import psycopg2
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from contract.windows import Steps, resampled
from models.data.dataset import Dataset, Table
from models.errors import DataError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping

    from psycopg2.extensions import connection

    from contract.manifest import View
    from contract.windows import Floats
    from models.options import Options

DSN_ENV: Final = "HEADWATER_DSN"
PREFIX: Final = "timescale:"
# So many readings are held at once, beside those of one step.
_BATCH: Final = 50_000
_MAX_STEPS: Final = 10_000_000
_SHOWN_METRICS: Final = 8

_SERIES: Final = """
select metric, series_id, unit from series
where group_id = %(group)s and node_id = %(node)s and device_id = %(device)s and kind = 'numeric'
order by metric, version
"""
# 192 is Sparkplug's GOOD; a reading's step is that of its whole milliseconds.
_READINGS: Final = """
select series_id, floor(extract(epoch from sampled_at) * 1000)::float8,
       case when quality = 192 then value else 'NaN'::float8 end
from reading
where series_id = any(%(series)s) and sampled_at >= %(from_at)s and sampled_at < %(to_at)s
order by sampled_at
"""


_Ids: TypeAlias = "Mapping[str, tuple[int, ...]]"
"""Series by metric."""


@dataclass(frozen=True, slots=True)
class Place:
    """A device of a node, or with an empty `device` the node itself."""

    group: str
    node: str
    device: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """GROUP/NODE/DEVICE or GROUP/NODE; raises DataError."""
        parts = text.removeprefix(PREFIX).split("/")
        if not 2 <= len(parts) <= 3 or not all(parts):  # noqa: PLR2004 - as the message says
            raise DataError(f"{text!r}: allowed are GROUP/NODE/DEVICE and, for the node itself, GROUP/NODE")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.group, self.node, self.device)))


@dataclass(frozen=True, slots=True)
class _Series:
    """A metric: the newest versions of its series that are in one unit, since metres are not joined to feet."""

    series_ids: tuple[int, ...]
    unit: str | None


def load_live(place: str, view: View, from_at: dt.datetime, to_at: dt.datetime, options: Options) -> Dataset:
    """What a device told between two times, the latter not included; its columns are the view's inputs.

    A table of the device where its metrics are called as the inputs' are, and one for each NAME where they are
    called NAME/..., as an exchange's symbols. Only reads, and in one picture of the database. Raises DataError.
    """
    source = Place.parse(place)
    _check_span(view, from_at, to_at)
    with connected() as opened:
        groups = _groups(_series(opened, source), view, source)
        with _progress(options, len(groups) * (to_at - from_at).total_seconds()) as advance:
            tables = tuple(Table(key, _steps(opened, ids, view, (from_at, to_at), advance)) for key, ids in groups)
    span = f"{from_at:%Y-%m-%dT%H:%M:%S}..{to_at:%Y-%m-%dT%H:%M:%S}"
    return Dataset(
        name=f"{PREFIX}{source}",
        title=f"Readings of {source}",
        origin=f"database, {source}, {span}",
        licence="your own",
        step_s=view.window.step_s,
        units={each.name: each.unit for each in view.inputs},
        tables=tables,
    )


def _check_span(view: View, from_at: dt.datetime, to_at: dt.datetime) -> None:
    if from_at.tzinfo is None or to_at.tzinfo is None or not from_at < to_at:
        raise DataError(f"from {from_at} to {to_at}: allowed are times with a zone, the first before the second")
    steps = (to_at - from_at).total_seconds() / view.window.step_s
    if steps > _MAX_STEPS:
        raise DataError(f"from {from_at} to {to_at} are {steps:.0f} steps: allowed are {_MAX_STEPS}")


@contextmanager
def connected() -> Iterator[connection]:
    """The database of HEADWATER_DSN, in one picture and read-only; what it says is wrong is a DataError."""
    try:
        opened = psycopg2.connect(os.environ.get(DSN_ENV, ""), connect_timeout=10, application_name="headwater models")
    except psycopg2.OperationalError as exc:
        raise DataError(f"the database cannot be reached (it is that of {DSN_ENV}): {_first_line(exc)}") from exc
    except psycopg2.Error as exc:
        # The message would repeat the string, and the password in it.
        raise DataError(f"{DSN_ENV}: is not a connection string of PostgreSQL") from exc
    try:
        opened.set_session(isolation_level="REPEATABLE READ", readonly=True)
        yield opened
    except psycopg2.Error as exc:
        raise DataError(f"the database cannot be read: {_first_line(exc)}") from exc
    finally:
        opened.close()


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]


def _series(opened: connection, source: Place) -> dict[str, _Series]:
    with opened.cursor() as cursor:
        cursor.execute(_SERIES, {"group": source.group, "node": source.node, "device": source.device})
        found: dict[str, _Series] = {}
        for metric, series_id, unit in cursor.fetchall():
            before = found.get(metric)
            is_continued = before is not None and before.unit in {unit, None}
            found[metric] = _Series((*before.series_ids, series_id) if before and is_continued else (series_id,), unit)
    if not found:
        raise DataError(f"{source}: the database knows no numbers of it")
    return found


def _groups(series: Mapping[str, _Series], view: View, source: Place) -> list[tuple[str, _Ids]]:
    """Key and series by metric of each table."""
    found: list[tuple[str, _Ids]] = []
    prefixes = {metric.removesuffix(view.sources[0]) for metric in series if metric.endswith(view.sources[0])}
    for prefix in sorted(each for each in prefixes if not each or each.endswith("/")):
        names = {metric: prefix + metric for metric in view.sources}
        if all(name in series for name in names.values()):
            _check_units(series, names, view, source)
            ids = {metric: series[name].series_ids for metric, name in names.items()}
            found.append((prefix.removesuffix("/") or str(source), ids))
    if not found:
        missing = [metric for metric in view.sources if metric not in series]
        known = ", ".join(list(series)[:_SHOWN_METRICS]) + (", ..." if len(series) > _SHOWN_METRICS else "")
        raise DataError(f"{source}: has no {', '.join(missing)}; it has {known}")
    return found


def _check_units(series: Mapping[str, _Series], names: Mapping[str, str], view: View, source: Place) -> None:
    for each in view.inputs:
        unit = series[names[each.source]].unit
        if each.unit and unit and each.unit != unit:
            raise DataError(f"{source}: {names[each.source]} is in {unit}, and the recipe wants {each.unit}")


def _steps(
    opened: connection,
    ids: _Ids,
    view: View,
    span: tuple[dt.datetime, dt.datetime],
    advance: Callable[[float], None],
) -> Steps:
    """The readings of a table, brought to steps as they come: never more of them are held than a batch and a step."""
    parts: list[Steps] = []
    held: Floats = np.empty((0, 3))
    reached_ms = span[0].timestamp() * 1000
    with opened.cursor(name="headwater_models") as cursor:
        cursor.execute(
            _READINGS, {"series": list(chain.from_iterable(ids.values())), "from_at": span[0], "to_at": span[1]}
        )
        while rows := cursor.fetchmany(_BATCH):
            held = np.concatenate([held, np.array(rows, np.float64)])  # readings x (series, at_ms, value)
            is_whole = held[:, 1] < held[-1, 1] // view.window.step_ms * view.window.step_ms
            parts.append(_brought(held[is_whole], ids, view))
            advance((held[-1, 1] - reached_ms) / 1000)
            held, reached_ms = held[~is_whole], float(held[-1, 1])
    parts.append(_brought(held, ids, view))
    advance(span[1].timestamp() - reached_ms / 1000)
    return Steps(
        np.concatenate([part.at_ms for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.is_spoilt for part in parts]),
    )


def _brought(readings: Floats, ids: _Ids, view: View) -> Steps:
    own = [readings[np.isin(readings[:, 0], ids[each.source])] for each in view.inputs]
    times = [each[:, 1].astype(np.int64) for each in own]
    return resampled(view.inputs, view.window, times, [each[:, 2] for each in own])


@contextmanager
def _progress(options: Options, total_s: float) -> Iterator[Callable[[float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    is_hidden = not options.console.is_terminal
    with Progress(*columns, console=options.console, transient=True, disable=is_hidden) as progress:
        task = progress.add_task("reading the database", total=total_s)
        yield lambda seconds: progress.advance(task, seconds)
