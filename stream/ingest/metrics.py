"""A metric to its row, or the reason why it is set aside."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from contract.clips import CLIP, ClipFrame
from contract.datatypes import NUMERIC, TEXTS, DataType
from contract.delivery import GAP, Gap
from contract.sparkplug import BD_SEQ, Quality
from stream.errors import RejectedError
from stream.ingest.rows import CameraFrame, GapDeclared, NumericReading, NumericSeries, TextReading, TextSeries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contract.sparkplug import Metric
    from stream.ingest.decode import Limits, Source
    from stream.ingest.rows import Row

MAX_NAME_CHARACTERS: Final = 256
MAX_TEXT_BYTES: Final = 64 * 1024
# Times a timestamptz and a Python datetime can both hold: 1970 to 9999.
END_OF_TIME_MS: Final = 253_402_300_799_999
_MAX_QUALITY: Final = 2**15 - 1
# Births are sent as they are made; a time that is further off is of a wrong clock, or that of an old value.
_BIRTH_TRAVELS_MS: Final = 60_000
# What a node says to Sparkplug hosts, and did not measure.
_CONTROL: Final = ("Node Control/", "Device Control/")


def is_no_reading(name: str) -> bool:
    """Whether a metric of this name in a data message is passed over."""
    return name == BD_SEQ or name.startswith(_CONTROL)


def is_no_series(name: str) -> bool:
    """Whether a metric of this name in a birth is passed over: it announces clips, of which no series comes."""
    return name in (BD_SEQ, CLIP) or name.startswith(_CONTROL)


def may_be_number(name: str) -> bool:
    """Whether a number of this name in a data message is a reading, as far as its name goes."""
    is_name = 0 < len(name) <= MAX_NAME_CHARACTERS and "\0" not in name
    return is_name and name not in _OWN_ROWS and not is_no_reading(name)


def birth_rows(source: Source, metric: Metric, limits: Limits) -> Iterator[Row]:
    """What a metric of a birth announces, and its value where it tells one; raises RejectedError and CodecError.

    Our own agents tell none. Nodes that report by exception may never tell again what does not change.
    """
    yield _series_row(source, metric)
    if metric.value is not None and metric.name not in _OWN_ROWS:
        yield reading_row(source, metric, limits)


def data_rows(source: Source, metric: Metric, limits: Limits) -> Iterator[Row]:
    """What a metric of a data message says; raises RejectedError and CodecError."""
    yield reading_row(source, metric, limits)


def _series_row(source: Source, metric: Metric) -> Row:
    _check_text(metric.name, "metric name", MAX_NAME_CHARACTERS)
    if metric.unit is not None:
        _check_text(metric.unit, "unit", MAX_NAME_CHARACTERS)
    row_type = TextSeries if _is_text(metric.datatype) else NumericSeries
    is_clock_right = abs(metric.timestamp_ms - source.received_at_ms) <= _BIRTH_TRAVELS_MS
    announced_at_ms = metric.timestamp_ms if is_clock_right else source.received_at_ms
    return row_type(*source.key, metric.name, metric.datatype, metric.unit, announced_at_ms)


def reading_row(source: Source, metric: Metric, limits: Limits) -> Row:
    """What a metric of a data message says; raises RejectedError and CodecError."""
    _check_text(metric.name, "metric name", MAX_NAME_CHARACTERS)
    if metric.name in _OWN_ROWS:
        return _OWN_ROWS[metric.name](source, metric, limits)
    _check_time(metric.timestamp_ms, source.received_at_ms, limits)
    if not 0 <= metric.quality <= _MAX_QUALITY:
        raise RejectedError(f"quality {metric.quality}: allowed are 0 to {_MAX_QUALITY}")
    if metric.value is None and metric.quality == Quality.GOOD:
        raise RejectedError("null with good quality: a point that could not be read needs a quality that says so")
    opening = (
        *source.key,
        metric.name,
        metric.datatype,
        metric.timestamp_ms,
        metric.is_historical,
        int(metric.quality),
    )
    if _is_text(metric.datatype):
        return TextReading(*opening, _text(metric))
    return NumericReading(*opening, _number(metric))


def _is_text(datatype: DataType) -> bool:
    if datatype not in TEXTS and datatype not in NUMERIC and datatype != DataType.DATETIME:
        raise RejectedError(f"{datatype.name} is not stored: allowed are numbers, booleans, times and texts")
    return datatype in TEXTS


def _number(metric: Metric) -> float | None:
    """The number as float64, to which integers beyond 2**53 are rounded (docs/stream.md)."""
    if metric.value is None:
        return None
    assert isinstance(metric.value, int | float)  # the codec holds a value to its datatype
    value = float(metric.value)
    if not math.isfinite(value):
        raise RejectedError(f"{metric.datatype.name} {value}: a number must be finite")
    return value / 1000 if metric.datatype == DataType.DATETIME else value


def _text(metric: Metric) -> str | None:
    if metric.value is None:
        return None
    assert isinstance(metric.value, str)  # the codec holds a value to its datatype
    if len(metric.value.encode()) > MAX_TEXT_BYTES:
        raise RejectedError(f"a text of {len(metric.value.encode())} bytes: allowed are {MAX_TEXT_BYTES}")
    _check_text(metric.value, "text", MAX_TEXT_BYTES)
    return metric.value


def _gap(source: Source, metric: Metric, limits: Limits) -> GapDeclared:
    gap = Gap.from_metric(metric)
    if not 0 < gap.from_ms <= gap.to_ms <= latest_ms(source.received_at_ms, limits):
        times = f"from {_utc(gap.from_ms)} to {_utc(gap.to_ms)}"
        raise RejectedError(f"a gap {times}, received {_utc(source.received_at_ms)}")
    _check_text(gap.reason, "reason of a gap", MAX_TEXT_BYTES)
    return GapDeclared(*source.key, source.received_at_ms, int(gap.from_ms), int(gap.to_ms), gap.reason)


def _camera_frame(source: Source, metric: Metric, limits: Limits) -> CameraFrame:
    frame = ClipFrame.from_metric(metric)
    for at_ms in (metric.timestamp_ms, frame.started_at_ms):
        _check_time(at_ms, source.received_at_ms, limits)
    return CameraFrame(
        *source.key,
        frame.event_id,
        frame.frame_no,
        frame.frames,
        frame.kind,
        frame.started_at_ms,
        metric.timestamp_ms,
        frame.jpeg,
    )


# Metrics of ours that are no readings.
_OWN_ROWS: Final[dict[str, Callable[[Source, Metric, Limits], Row]]] = {GAP: _gap, CLIP: _camera_frame}


def _check_text(text: str, what: str, max_characters: int) -> None:
    if len(text) > max_characters:
        raise RejectedError(f"a {what} of {len(text)} characters: allowed are {max_characters}")
    if "\0" in text:
        raise RejectedError(f"a {what} with a NUL character, which PostgreSQL cannot store")


def _check_time(sampled_at_ms: int, received_at_ms: int, limits: Limits) -> None:
    if sampled_at_ms < received_at_ms - limits.max_age_ms:
        age = f"more than {limits.max_age_ms / 86_400_000:g} days before"
    elif sampled_at_ms > latest_ms(received_at_ms, limits):
        age = f"more than {limits.max_future_ms / 1000:g} s after"
    else:
        return
    raise RejectedError(f"sampled at {_utc(sampled_at_ms)}, {age} it was received ({_utc(received_at_ms)})")


def latest_ms(received_at_ms: int, limits: Limits) -> int:
    """The latest time that a reading may have which was received then."""
    return min(received_at_ms + limits.max_future_ms, END_OF_TIME_MS)


def _utc(ms: int) -> str:
    if ms > END_OF_TIME_MS:
        return f"{ms} ms"
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
