"""What an answer's document means: rows, their time, and a reading for each metric. Pure, and compiled once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from contract.datatypes import INTEGERS, TEXTS, DataType
from contract.sparkplug import Quality
from edge.reading import MetricInfo, Reading
from edge.sources.rest.api import DATATYPES
from edge.sources.rest.bodies import MAX_ROWS, parse, shown
from edge.sources.rest.expressions import Expression
from edge.sources.rest.templates import fill
from edge.sources.rest.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from contract.datatypes import Value
    from edge.sources.rest.api import Metric, Refusal, Request

_SHOWN: Final = 60
_LONGEST_TEXT: Final = 1000
_LOOKED_AT: Final = 2000
_MAX_FLOAT: Final = 3.4028234663852886e38
LAG: Final = "lag"


class Row(NamedTuple):
    """One row of one subject; `token` is what makes it new, None if it always is. `faults` are by metric."""

    at_ms: int
    token: Hashable | None
    readings: Sequence[Reading]
    faults: Mapping[str, str]


class Digest(NamedTuple):
    """What a page says: a refusal, or rows by subject and where the next page is."""

    refusal: Refusal | None = None
    rows: Mapping[str, Rows] = MappingProxyType({})
    next_page: object = None

    @property
    def has_rows(self) -> bool:
        """Whether there was anything on it."""
        return any(rows.rows for rows in self.rows.values())


@dataclass(slots=True)
class Rows:
    """What an answer has of one subject: rows in the order of their times, or why there are none."""

    rows: list[Row] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class _Cell:
    """A metric's expressions, compiled."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.datatype = DATATYPES[metric.datatype]
        self._value = Expression(metric.value)
        self._unit = None if metric.unit_at is None else Expression(metric.unit_at)
        self._quality = None if metric.quality_at is None else Expression(metric.quality_at)

    def read(self, row: object) -> Value:
        """The value, None for none that is optional; raises ValueError with what is wrong with it."""
        found = self._value.of(row)
        if found is None:
            if self.metric.optional:
                return None
            raise ValueError("it is null or missing")
        self._check_unit(row)
        if self._quality is not None and (flag := self._quality.of(row)) not in self.metric.good:
            raise ValueError(f"the provider's quality flag is {_shown(flag)}")
        return decode(found, self.datatype, self.metric.scale)

    def _check_unit(self, row: object) -> None:
        if self._unit is None:
            return
        wanted = self.metric.unit_says or self.metric.unit
        # A number that silently changed its meaning would be worse than none.
        if (unit := self._unit.of(row)) != wanted:
            raise ValueError(f"it is in {_shown(unit)}, allowed is {wanted!r}")


class Reader:
    """Reads the answers to one request. A subject is a symbol, or empty where nothing is asked by symbol."""

    def __init__(self, request: Request, metrics: Sequence[Metric], values: Mapping[str, str], *, lag: bool) -> None:
        self._request = request
        self._values = values
        self._cells = [_Cell(metric) for metric in metrics]
        self._rows = Expression(request.rows)
        self._symbol = None if request.symbol is None else Expression(request.symbol)
        self._time = None if request.time is None else Expression(request.time.value)
        self._has_lag = lag and request.time is not None
        self._refusals = [(one, Expression(one.when)) for one in request.refusals if one.when is not None]
        next_page = None if request.paging is None else request.paging.next
        self._next_page = None if next_page is None else Expression(next_page)

    def digest(self, body: bytes, subjects: Sequence[str], received_ms: int) -> Digest:
        """What a page says; raises ValueError for one that says nothing, with its beginning."""
        start = body[:_LOOKED_AT].decode(errors="replace")
        for refusal in self._request.refusals:
            if refusal.text is not None and refusal.text in start:
                return Digest(refusal)
        document = parse(body, self._request.format)
        for refusal, when in self._refusals:
            if _holds(when, document):
                return Digest(refusal)
        rows = self.read(document, subjects, received_ms)
        errors = [found.errors[0] for found in rows.values() if found.errors and not found.rows]
        if len(errors) == len(subjects):
            raise ValueError(f"{errors[0]}: {shown(body)}")
        return Digest(None, rows, None if self._next_page is None else self._next_page.of(document))

    def prefix(self, subject: str) -> str:
        """What stands before the names of a subject's metrics."""
        return fill(self._request.prefix, {**self._values, "symbol": subject})

    def infos(self, subject: str) -> list[MetricInfo]:
        """A subject's metrics."""
        prefix = self.prefix(subject)
        infos = [
            MetricInfo(prefix + cell.metric.name, cell.datatype, cell.metric.unit, cell.metric.description)
            for cell in self._cells
        ]
        what = "seconds from the time of the values to their receipt"
        return [*infos, MetricInfo(prefix + LAG, DataType.DOUBLE, "s", what)] if self._has_lag else infos

    def read(self, document: object, subjects: Sequence[str], received_ms: int) -> dict[str, Rows]:
        """What the document has of each subject; raises ValueError where it has nothing that could be rows."""
        found = {subject: Rows() for subject in subjects}
        spelled = {subject.casefold(): subject for subject in subjects}
        for row in self._rows_in(document):
            subject = subjects[0] if self._symbol is None else spelled.get(str(self._symbol.of(row)).casefold())
            if subject is None:
                continue
            try:
                found[subject].rows.append(self._row(row, subject, received_ms))
            except ValueError as exc:
                found[subject].errors = found[subject].errors or [str(exc)]
        for rows in found.values():
            rows.rows.sort(key=lambda row: row.at_ms)
            if self._symbol is not None and not rows.rows and not rows.errors:
                rows.errors.append("the answer has no row of it")
        return found

    def _rows_in(self, document: object) -> Sequence[object]:
        rows = self._rows.of(document)
        if isinstance(rows, dict):
            return [rows]
        if not isinstance(rows, list):
            raise ValueError(f"{self._request.rows!r} is {_shown(rows)}, allowed is an object or a list")  # noqa: TRY004 - foreign data
        if len(rows) > MAX_ROWS:
            raise ValueError(f"over {MAX_ROWS} rows")
        return rows

    def _row(self, row: object, subject: str, received_ms: int) -> Row:
        at_ms = received_ms
        if self._time is not None and self._request.time is not None:
            at_ms = parse_time(self._time.of(row), self._request.time)
        prefix, readings, faults = self.prefix(subject), [], {}
        for cell in self._cells:
            name = prefix + cell.metric.name
            try:
                if (value := cell.read(row)) is not None:
                    readings.append(Reading(name, cell.datatype, value, at_ms))
            except ValueError as exc:
                faults[name] = str(exc)
                readings.append(Reading(name, cell.datatype, None, at_ms, Quality.BAD))
        token = self._token(at_ms, readings)
        if self._has_lag:
            readings.append(Reading(prefix + LAG, DataType.DOUBLE, (received_ms - at_ms) / 1000, at_ms))
        return Row(at_ms, token, readings, faults)

    def _token(self, at_ms: int, readings: Sequence[Reading]) -> Hashable | None:
        if self._time is not None:
            return at_ms
        return tuple(reading.value for reading in readings) if self._request.only_changes else None


def _holds(when: Expression, document: object) -> bool:
    try:
        found = when.of(document)
    except ValueError:
        return False
    # JMESPath's own truth: any number is true, 0 too.
    return not (found is None or found is False or found in ("", [], {}))


def decode(found: object, datatype: DataType, scale: float = 1.0) -> Value:
    """A foreign value as one of a metric; raises ValueError with what was found and what is allowed."""
    if datatype in TEXTS:
        if isinstance(found, str) and len(found) <= _LONGEST_TEXT:
            return found
        raise ValueError(f"it is {_shown(found)}, allowed is a text of at most {_LONGEST_TEXT} characters")
    if datatype is DataType.BOOLEAN:
        if isinstance(found, bool):
            return found
        raise ValueError(f"it is {_shown(found)}, allowed is true or false")
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"it is {_shown(found)}, allowed is a number")  # noqa: TRY004 - foreign data
    return _number(found, datatype, scale)


def _number(found: float, datatype: DataType, scale: float) -> float:
    try:
        number = found if scale == 1.0 else found * scale
        if not math.isfinite(number):
            raise ValueError(f"it is {_shown(found)}, allowed is a finite number")
        if datatype in INTEGERS:
            width = INTEGERS[datatype]
            if number != int(number) or not width.low <= number <= width.high:
                raise ValueError(f"it is {_shown(found)}, allowed is a whole number, {width.low} to {width.high}")
            return int(number)
        number = float(number)
    except OverflowError as exc:  # an int beyond the floats
        raise ValueError("it is a number beyond all floats") from exc
    if datatype is DataType.FLOAT and abs(number) > _MAX_FLOAT:
        raise ValueError(f"it is {_shown(found)}, allowed is a number that float32 can hold")
    return number


def _shown(found: object) -> str:
    try:
        text = repr(found)
    except (ValueError, RecursionError):  # more digits than Python prints, deeper than it goes
        return f"no usable {type(found).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
