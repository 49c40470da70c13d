"""The series dictionary: which number stands for which group, node, device and metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from psycopg2.extras import execute_values

from stream.ingest.batch import SeriesKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg2.extensions import connection, cursor

    from stream.ingest.batch import SeriesColumn

# The rows of the statements below are: group, node, device, metric, kind, datatype, unit.
_Announced = tuple[str, str, str, str, str, int, str | None]

_LOOK_UP: Final = """
select s.series_id, s.group_id, s.node_id, s.device_id, s.metric, s.kind
from (values %s) as wanted (group_id, node_id, device_id, metric, kind)
join series s using (group_id, node_id, device_id, metric, kind)
"""

_ADD: Final = """
insert into series (group_id, node_id, device_id, metric, kind, datatype, unit) values %s
on conflict (group_id, node_id, device_id, metric, kind, version) do nothing
"""

# Statements grow with the batch, and a hostile payload can name a hundred thousand metrics.
_PAGE_ROWS: Final = 10_000
# Some 400 MB of names; past it the dictionary starts anew, and asks the database again.
MAX_KNOWN: Final = 500_000

_ANNOUNCE: Final = """
update series s set datatype = a.datatype, unit = a.unit
from (values %s) as a (group_id, node_id, device_id, metric, kind, datatype, unit)
where (s.group_id, s.node_id, s.device_id, s.metric, s.kind) = (a.group_id, a.node_id, a.device_id, a.metric, a.kind)
  and (s.datatype, s.unit) is distinct from (a.datatype::smallint, a.unit::text)
"""


class SeriesDictionary:
    """The numbers known so far; it holds only what the database has committed, over one connection's life.

    A server that comes back may be another, or have lost its last moments, so a new connection starts a new one.
    """

    def __init__(self, opened: connection, max_known: int = MAX_KNOWN) -> None:
        self._opened = opened
        self._max_known = max_known
        self._ids: dict[SeriesKey, int] = {}

    def announce(self, column: SeriesColumn, units: Sequence[str | None]) -> None:
        """Add what births announced, and bring datatype and unit of what is there up to date; commits."""
        # Of several births in one batch the last one counts.
        latest = dict(zip(column.places.tolist(), units, strict=True))
        rows = [(*key, column.datatypes[place], latest[place]) for place, key in enumerate(column.keys)]
        if rows:
            self._add(rows)
            with self._opened.cursor() as cursor:
                execute_values(cursor, _ANNOUNCE, rows, page_size=_PAGE_ROWS)
            self._opened.commit()

    def ids(self, column: SeriesColumn) -> NDArray[np.int32]:
        """The number of each reading's series; series that are new are added, and committed."""
        self._add([(*key, datatype, None) for key, datatype in zip(column.keys, column.datatypes, strict=True)])
        return np.array([self._ids[key] for key in column.keys], np.int32)[column.places]

    def _add(self, rows: list[_Announced]) -> None:
        """Learn the numbers of series, adding those that the database does not have."""
        if len(self._ids) > self._max_known:
            self._ids.clear()
        unknown = {SeriesKey(*row[:5]): row for row in rows if SeriesKey(*row[:5]) not in self._ids}
        if not unknown:
            return
        with self._opened.cursor() as cursor:
            found = _look_up(cursor, list(unknown))
            # Only what is missing: an insert that conflicts uses up a number all the same.
            missing = sorted(row for key, row in unknown.items() if key not in found)
            if missing:
                execute_values(cursor, _ADD, missing, page_size=_PAGE_ROWS)
                found |= _look_up(cursor, [SeriesKey(*row[:5]) for row in missing])
        self._opened.commit()
        self._ids |= found


def _look_up(cursor: cursor, keys: Sequence[SeriesKey]) -> dict[SeriesKey, int]:
    rows = execute_values(cursor, _LOOK_UP, keys, page_size=_PAGE_ROWS, fetch=True)
    return {SeriesKey(*key): series_id for series_id, *key in rows}
