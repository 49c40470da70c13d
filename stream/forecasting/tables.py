"""The rows of forecasting in the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from psycopg2.extras import execute_values

from stream import turn
from stream.forecasting.incidents import Incident
from stream.forecasting.readings import text_of
from stream.forecasting.watched import Device, Watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg2.extensions import cursor

Place: TypeAlias = Literal["cloud", "edge"]

_FORECASTER_KEY: Final = ("group_id", "node_id", "device_id", "subject", "model", "version", "place", "target")
_KEY: Final = ", ".join(_FORECASTER_KEY)
_LOOK_UP: Final = f"""
select f.forecaster_id, {", ".join(f"f.{name}" for name in _FORECASTER_KEY)}
from (values %s) as wanted ({_KEY}) join forecaster f using ({_KEY})
"""  # noqa: S608 - our own column names
_ADD: Final = f"insert into forecaster ({_KEY}, unit, series_id) values %s on conflict ({_KEY}) do nothing"  # noqa: S608 - as above
_FORECASTS: Final = """
insert into forecast (forecaster_id, made_at, horizon_s, target_at, p10, p50, p90, levels, quantiles) values %s
on conflict (forecaster_id, made_at, horizon_s) do nothing returning 1
"""
_ANOMALIES: Final = """
insert into anomaly (group_id, node_id, device_id, metric, detector, place, started_at, ended_at, peak_at, peak_score,
                     threshold, model, version, evidence) values %s
on conflict (group_id, node_id, device_id, metric, detector, place, started_at) do update set
  (ended_at, peak_at, peak_score, threshold, model, version, evidence, end_reason) =
  (excluded.ended_at, excluded.peak_at, excluded.peak_score, excluded.threshold, excluded.model, excluded.version,
   excluded.evidence, null)
"""
_PROGRESS: Final = """
insert into model_progress (place, model, group_id, node_id, device_id, subject, done_to, incident) values %s
on conflict (place, model, group_id, node_id, device_id, subject) do update set
  (done_to, incident) = (excluded.done_to, excluded.incident)
"""
_DONE: Final = """
select group_id, node_id, device_id, subject, (extract(epoch from done_to) * 1000)::bigint, incident
from model_progress where (place, model) = (%s, %s)
"""
_PAGE_ROWS: Final = 5_000
# The quantiles that have a column.
_NAMED: Final = (0.1, 0.5, 0.9)


class Forecaster(NamedTuple):
    """Who forecasts what; the target's unit, and the series that it is the value of, None where it is of none."""

    watched: Watched
    model: str
    version: str
    place: Place
    target: str
    unit: str | None = None
    series_id: int | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """What makes it one."""
        return (*self.watched.device, self.watched.subject, self.model, self.version, self.place, self.target)


class Forecast(NamedTuple):
    """A forecast; `levels` rise, and `quantiles` are at these."""

    forecaster: Forecaster
    made_ms: int
    horizon_ms: int
    levels: tuple[float, ...]
    quantiles: tuple[float, ...]


class Anomaly(NamedTuple):
    """An incident, and whose and by which model it is."""

    watched: Watched
    model: str
    version: str
    place: Place
    incident: Incident


class Done(NamedTuple):
    """How far a watched has come, and the incident that lasts then or may become one."""

    done_to_ms: int
    incident: Incident | None = None


class Forecasters:
    """The numbers of forecasters, as one connection has seen them committed or has added them."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, ...], int] = {}

    def ids(self, cursor: cursor, wanted: Iterable[Forecaster]) -> Mapping[tuple[str, ...], int]:
        """By their keys; those that are new are added."""
        unknown = {each.key: each for each in wanted if each.key not in self._ids}
        if unknown:
            self._look_up(cursor, unknown)
            # Only what is missing: an insert that conflicts uses up a number all the same.
            if missing := [key for key in unknown if key not in self._ids]:
                rows = [(*key, unknown[key].unit, unknown[key].series_id) for key in sorted(missing)]
                execute_values(cursor, _ADD, rows, page_size=_PAGE_ROWS)
                self._look_up(cursor, missing)
        return self._ids

    def _look_up(self, cursor: cursor, keys: Iterable[tuple[str, ...]]) -> None:
        found = execute_values(cursor, _LOOK_UP, list(keys), page_size=_PAGE_ROWS, fetch=True)
        self._ids |= {tuple(key): number for number, *key in found}


def add_forecasts(cursor: cursor, forecasters: Forecasters, made: Sequence[Forecast]) -> int:
    """Insert those that are not there yet; how many."""
    if not made:
        return 0
    turn.take(cursor, "forecasting")
    ids = forecasters.ids(cursor, {each.forecaster.key: each.forecaster for each in made}.values())
    rows = [_forecast_row(ids[each.forecaster.key], each) for each in made]
    return len(execute_values(cursor, _FORECASTS, rows, page_size=_PAGE_ROWS, fetch=True))


def put_anomalies(cursor: cursor, found: Sequence[Anomaly]) -> None:
    """Insert incidents, or bring them up to date."""
    turn.take(cursor, "forecasting")
    rows = [_anomaly_row(each) for each in found]
    execute_values(cursor, _ANOMALIES, rows, page_size=_PAGE_ROWS)


def done(cursor: cursor, place: Place, model: str) -> dict[Watched, Done]:
    """How far each watched of a model has come."""
    cursor.execute(_DONE, (place, model))
    return {
        Watched(Device(*device), subject): Done(done_to_ms, Incident.parse(incident))
        for *device, subject, done_to_ms, incident in cursor.fetchall()
    }


def put_done(cursor: cursor, place: Place, model: str, now: Mapping[Watched, Done]) -> None:
    """Note how far each watched of a model has come."""
    rows = [
        (place, model, *watched.device, watched.subject, text_of(each.done_to_ms), _json(each.incident))
        for watched, each in now.items()
    ]
    execute_values(cursor, _PROGRESS, rows, page_size=_PAGE_ROWS)


def _forecast_row(forecaster_id: int, made: Forecast) -> tuple[Any, ...]:
    at = dict(zip(made.levels, made.quantiles, strict=True))
    return (
        forecaster_id,
        text_of(made.made_ms),
        made.horizon_ms / 1000,
        text_of(made.made_ms + made.horizon_ms),
        *(at.get(level) for level in _NAMED),
        list(made.levels),
        list(made.quantiles),
    )


def _anomaly_row(found: Anomaly) -> tuple[Any, ...]:
    incident = found.incident
    return (
        *found.watched.device,
        # There is no column for a subject; what an incident of a symbol is of reads as one of its metric.
        found.watched.subject,
        found.model,
        found.place,
        text_of(incident.started_ms),
        None if incident.ended_ms is None else text_of(incident.ended_ms),
        text_of(incident.peak_ms),
        incident.peak_score,
        incident.threshold,
        found.model,
        found.version,
        json.dumps(list(incident.evidence)),
    )


def _json(incident: Incident | None) -> str | None:
    return None if incident is None else json.dumps(incident.document())
