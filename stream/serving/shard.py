"""A shard of series, in Arrow: their readings and the ends of windows, of both some, go in, rows come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import pyarrow as pa

from contract.manifest import AnomalyOutput, ForecastOutput
from contract.sparkplug import Quality
from contract.windows import resampled, windows_at
from stream.ingest.batch import to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from contract.manifest import View
    from contract.windows import Steps, Windows
    from stream.serving.served import ServedModel

    Numbers: TypeAlias = NDArray[np.int64]
    # Model, keys, readings, ends, schema of the rows.
    RowsOf: TypeAlias = Callable[[ServedModel, Sequence[str], pa.Table, pa.Table, pa.Schema], pa.Table]

# A window of 60 steps of 8 features takes 4 KB.
_CELLS_AT_ONCE: Final = 8 << 20
_TIME: Final = pa.timestamp("us", tz="UTC")


def forecast_rows(
    model: ServedModel, keys: Sequence[str], readings: pa.Table, ends: pa.Table, schema: pa.Schema
) -> pa.Table:
    """A row for each window that is whole, target and horizon, in that order; `stream.serving.forecasts` has more."""
    output, step_ms = model.manifest.output, model.manifest.window.step_ms
    assert isinstance(output, ForecastOutput)
    names, horizons = pa.array([each.name for each in output.targets]), np.asarray(output.horizons, np.int32)
    found = []
    for windows, wanted in _windows(model.manifest, keys, readings, ends):
        values = model.forecast(windows)  # [windows, targets, horizons, quantiles]
        window, target, horizon = np.nonzero(np.isfinite(values).all(axis=3))
        after_ms = horizons[horizon].astype(np.int64) * step_ms
        is_known = model.manifest.window.steps == "clock"
        columns = {
            "target": names.take(pa.array(target)),
            "horizon": horizons[horizon],
            "horizon_s": after_ms / 1000,
            "target_at": _times(windows.end_ms[window] + after_ms) if is_known else pa.nulls(len(window), _TIME),
        }
        quantiles = values[window, target, horizon]  # [rows, quantiles]
        columns |= {name: quantiles[:, place] for place, name in enumerate(_between(schema, "target_at", "model"))}
        found.append(_table(model, wanted, window, columns, schema))
    return pa.concat_tables(found)


def score_rows(
    model: ServedModel, keys: Sequence[str], readings: pa.Table, ends: pa.Table, schema: pa.Schema
) -> pa.Table:
    """A row for each window that is whole; `stream.serving.scores` has more."""
    output = model.manifest.output
    assert isinstance(output, AnomalyOutput)
    found = []
    for windows, wanted in _windows(model.manifest, keys, readings, ends):
        scores, shares = model.score(windows)
        (window,) = np.nonzero(np.isfinite(scores))
        columns = {
            "score": scores[window],
            "threshold": np.full(len(window), output.threshold),
            "contribution": _shares([each.name for each in model.manifest.features], shares[window]),
        }
        found.append(_table(model, wanted, window, columns, schema))
    return pa.concat_tables(found)


def _windows(view: View, keys: Sequence[str], readings: pa.Table, ends: pa.Table) -> Iterator[tuple[Windows, pa.Table]]:
    """The windows, a bounded number at once, and the rows of `ends` that they are of."""
    of_readings, of_ends = _series(keys, readings, ends)
    end_ms = _ms(ends["made_at"])
    steps = _steps(view, readings, of_readings, int(end_ms.min()), int(end_ms.max()))
    at_once = max(1, _CELLS_AT_ONCE // (view.window.length * len(view.features)))
    for first in range(0, len(end_ms), at_once):
        part = slice(first, first + at_once)
        yield windows_at(view, steps, end_ms[part], of_ends[part]), ends.slice(first, at_once)


def _steps(view: View, readings: pa.Table, series: Numbers, first_end_ms: int, last_end_ms: int) -> Steps:
    at_ms = _ms(readings["sampled_at"])
    is_wanted = at_ms < last_end_ms
    if view.window.steps == "clock":
        looked_at = view.window.length + view.reach + max(view.hold_steps)
        is_wanted &= at_ms >= first_end_ms - looked_at * view.window.step_ms
    # Null is NaN in both, and so no good reading.
    is_good = to_numpy(readings["quality"], np.float64) == Quality.GOOD
    values = np.where(is_good, to_numpy(readings["value"], np.float64), np.nan)
    metrics = readings["metric"].combine_chunks().dictionary_encode()
    codes, names = to_numpy(metrics.indices, np.int64), metrics.dictionary.to_pylist()
    rows = [
        np.flatnonzero(is_wanted & (codes == (names.index(each.source) if each.source in names else -1)))
        for each in view.inputs
    ]
    return resampled(
        view.inputs,
        view.window,
        [at_ms[each] for each in rows],
        [values[each] for each in rows],
        [series[each] for each in rows],
    )


def _series(keys: Sequence[str], *tables: pa.Table) -> list[Numbers]:
    """For each row of each table a number from 0 on, the same for the same keys."""
    numbers = np.zeros(sum(table.num_rows for table in tables), np.int64)
    for key in keys:
        chunks = [chunk for table in tables for chunk in table[key].chunks]
        encoded = pa.chunked_array(chunks, tables[0].schema.field(key).type).combine_chunks()
        encoded = encoded.dictionary_encode(null_encoding="encode")
        numbers = numbers * len(encoded.dictionary) + to_numpy(encoded.indices, np.int64)
        # Small again, or many keys would overflow.
        numbers = np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    return np.split(numbers, np.cumsum([table.num_rows for table in tables])[:-1])


def _table(
    model: ServedModel, ends: pa.Table, window: Numbers, columns: dict[str, pa.Array], schema: pa.Schema
) -> pa.Table:
    """The rows, each with the keys and time of its window."""
    told = ends.take(pa.array(window))
    told = {name: told[name] for name in ends.column_names} | columns
    told["model"] = pa.repeat(model.manifest.name, len(window))
    told["version"] = pa.repeat(model.manifest.version, len(window))
    return pa.table([_typed(told[field.name], field.type) for field in schema], schema=schema)


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column.cast(kind) if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, kind)


def _shares(features: Sequence[str], shares: NDArray[np.float64]) -> pa.Array:
    """A map for each row, [rows, features]; empty where they are not known."""
    is_known = np.isfinite(shares).all(axis=1)
    offsets = np.append(0, np.cumsum(is_known * len(features)))
    names = pa.array(list(features)).take(pa.array(np.tile(np.arange(len(features)), is_known.sum())))
    return pa.MapArray.from_arrays(pa.array(offsets, pa.int32()), names, pa.array(shares[is_known].reshape(-1)))


def _between(schema: pa.Schema, after: str, before: str) -> list[str]:
    names: list[str] = schema.names
    return names[names.index(after) + 1 : names.index(before)]


def _ms(column: pa.ChunkedArray) -> Numbers:
    return to_numpy(column.cast(_TIME).cast(pa.int64()), np.int64) // 1000


def _times(at_ms: Numbers) -> pa.Array:
    return pa.array(at_ms * 1000).cast(_TIME)
