"""The series dictionary: which number stands for which group, node, device and metric.

A metric whose type or unit changes goes on as a new version of its series, a row and a number of its own. Which version
a reading belongs to is settled by when it was sampled, never by when it came, so that what is delivered again, or read
again from Kafka, finds the version that it was stored under.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from psycopg2.extras import execute_values

from stream.ingest.batch import SeriesKey
from stream.ingest.events import NodeEvent, store_events
from stream.ingest.presence import utc
from stream.ingest.versions import Announced, Version, announced_of, next_version, other_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray
    from psycopg2.extensions import connection, cursor

    from stream.ingest.batch import SeriesColumn

logger = logging.getLogger(__name__)

REFUSED: Final = -1
"""In place of a series' number: its node has as many series as are allowed."""
MAX_PER_NODE: Final = 20_000
# Statements grow with the batch, and a hostile payload can name a hundred thousand metrics.
_PAGE_ROWS: Final = 10_000
# Some 400 MB of names; past it the dictionary starts anew, and asks the database again.
MAX_KNOWN: Final = 500_000

_LOOK_UP: Final = """
select s.group_id, s.node_id, s.device_id, s.metric, s.kind, s.series_id, s.version, s.datatype, s.unit,
       (extract(epoch from s.valid_from) * 1000)::bigint
from (values %s) as wanted (group_id, node_id, device_id, metric, kind)
join series s using (group_id, node_id, device_id, metric, kind)
order by s.series_id
"""
_ADD: Final = """
insert into series (group_id, node_id, device_id, metric, kind, datatype, unit, version, valid_from) values %s
on conflict (group_id, node_id, device_id, metric, kind, version) do nothing
"""
_LEARN_UNIT: Final = """
update series s set unit = a.unit from (values %s) as a (series_id, unit)
where s.series_id = a.series_id and s.unit is null
"""
_NEWEST_VERSION: Final = "select max(series_id) from series where version > 1"
_COUNT: Final = """
select group_id, node_id, count(*) from series join (values %s) as n (group_id, node_id) using (group_id, node_id)
group by group_id, node_id
"""


class _New(NamedTuple):
    """A version that is to be added."""

    key: SeriesKey
    datatype: int
    unit: str | None
    version: int = 1
    valid_from_ms: int | None = None

    def row(self) -> tuple[Any, ...]:
        return (*self.key, *self[1:4], utc(self.valid_from_ms))


class SeriesDictionary:
    """The numbers known so far; it holds only what the database has committed, over one connection's life.

    A server that comes back may be another, or have lost its last moments, so a new connection starts a new one.
    """

    def __init__(self, opened: connection, max_known: int = MAX_KNOWN, max_per_node: int = MAX_PER_NODE) -> None:
        self._opened = opened
        self._max_known = max_known
        self._max_per_node = max_per_node
        # The newest version of each; all versions only of those few that have more than one.
        self._ids: dict[SeriesKey, int] = {}
        self._versions: dict[SeriesKey, list[Version]] = {}
        self._in_node: Counter[tuple[str, str]] = Counter()
        self._told: set[tuple[str, str]] = set()
        self._newest_version: int | None = None

    def announce(self, births: pa.Table, kind: str) -> None:
        """Add what births announced, with a new version of what they announced otherwise than before; commits.

        `births` are rows of NumericSeries or TextSeries, in Kafka's order.
        """
        announced = announced_of(births, kind)
        if not announced:
            return
        with self._opened.cursor() as cursor:
            known = _look_up(cursor, list(announced))
            new = [_New(key, told[0].datatype, told[0].unit) for key, told in announced.items() if key not in known]
            self._add(cursor, new, known)
            self._note_kinds(cursor, new)
            self._change(cursor, announced, known)
        self._opened.commit()
        self._learn(known)

    def ids(self, column: SeriesColumn, sampled_at_ms: NDArray[np.int64] | None = None) -> NDArray[np.int32]:
        """The number of each reading's series, int32 [n]; series that are new are added, and committed.

        `sampled_at_ms`, int64 [n], says which version; without it, it is the newest. REFUSED stands where the node
        already has as many series as are allowed.
        """
        self._know(column.keys, column.datatypes)
        newest = np.array([self._ids.get(key, REFUSED) for key in column.keys], np.int32)
        ids = newest[column.places]
        if sampled_at_ms is not None and self._versions:
            self._go_back(ids, column, sampled_at_ms)
        return ids

    def _know(self, keys: Sequence[SeriesKey], datatypes: Sequence[int]) -> None:
        """Learn the numbers of series, adding those that the database does not have."""
        self._forget_what_changed()
        unknown = {key: datatype for key, datatype in zip(keys, datatypes, strict=True) if key not in self._ids}
        if not unknown:
            return
        with self._opened.cursor() as cursor:
            known = _look_up(cursor, list(unknown))
            # Only what is missing: an insert that conflicts uses up a number all the same.
            self._add(cursor, [_New(key, unknown[key], None) for key in sorted(unknown.keys() - known.keys())], known)
        self._opened.commit()
        self._learn(known)

    def _forget_what_changed(self) -> None:
        """Start anew when there are new versions, which another connection may have added, or too much is known."""
        with self._opened.cursor() as cursor:
            cursor.execute(_NEWEST_VERSION)
            (newest_version,) = cursor.fetchone() or (None,)
        self._opened.commit()
        if newest_version != self._newest_version or len(self._ids) > self._max_known:
            for held in (self._ids, self._versions, self._in_node):
                held.clear()
        self._newest_version = newest_version

    def _learn(self, known: dict[SeriesKey, list[Version]]) -> None:
        for key, versions in known.items():
            self._ids[key] = versions[-1].series_id
            if len(versions) > 1:
                self._versions[key] = versions

    def _go_back(self, ids: NDArray[np.int32], column: SeriesColumn, sampled_at_ms: NDArray[np.int64]) -> None:
        """Put the right version's number in place of the newest one's."""
        versioned = [self._versions.get(key) for key in column.keys]
        has_versions = np.array([versions is not None for versions in versioned], bool)
        rows = np.flatnonzero(has_versions[column.places])
        rows = rows[np.argsort(column.places[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(column.places[rows], prepend=-1))
        for mine in np.split(rows, starts[1:]) if len(rows) else ():
            versions = versioned[int(column.places[mine[0]])] or []
            since = np.array([version.valid_from_ms or 0 for version in versions], np.int64)
            places = np.searchsorted(since[1:], sampled_at_ms[mine], side="right")
            ids[mine] = np.array([version.series_id for version in versions], np.int32)[places]

    def _add(self, cursor: cursor, new: Sequence[_New], known: dict[SeriesKey, list[Version]]) -> None:
        """Add versions of series, as far as their nodes may have more, and learn their numbers into `known`."""
        allowed = self._within_bounds(cursor, new)
        if allowed:
            execute_values(cursor, _ADD, [each.row() for each in allowed], page_size=_PAGE_ROWS)
            known |= _look_up(cursor, list({each.key: None for each in allowed}))

    def _within_bounds(self, cursor: cursor, new: Sequence[_New]) -> list[_New]:
        nodes = {each.key[:2] for each in new}
        uncounted = sorted(nodes - self._in_node.keys())
        if uncounted:
            self._in_node.update(dict.fromkeys(uncounted, 0))
            for *node, count in execute_values(cursor, _COUNT, uncounted, fetch=True):
                self._in_node[node[0], node[1]] = count
        allowed, refused = [], Counter[tuple[str, str]]()
        for each in new:
            node = each.key[:2]
            if self._in_node[node] < self._max_per_node:
                self._in_node[node] += 1
                allowed.append(each)
            else:
                refused[node] += 1
        self._tell_of_refused(cursor, refused)
        return allowed

    def _tell_of_refused(self, cursor: cursor, refused: Counter[tuple[str, str]]) -> None:
        for (group_id, node_id), count in sorted(refused.items()):
            detail = {"limit": self._max_per_node, "refused": count}
            store_events(cursor, [NodeEvent(group_id, node_id, "", "", "series_limit", detail)])
            if (group_id, node_id) not in self._told:
                self._told.add((group_id, node_id))
                logger.warning(
                    "node %s/%s has %d series, the most allowed (limits.max_series_per_node): readings of new metrics "
                    "are set aside",
                    group_id,
                    node_id,
                    self._max_per_node,
                )

    def _change(
        self,
        cursor: cursor,
        announced: dict[SeriesKey, list[Announced]],
        known: dict[SeriesKey, list[Version]],
    ) -> None:
        """Learn units that were not known, and add versions of what has changed, each announcement in its turn."""
        units: dict[int, str] = {}
        for key, told in announced.items():
            for each in told if key in known else ():
                newest = known[key][-1]
                if newest.unit is None and each.unit and each.datatype == newest.datatype:
                    units[newest.series_id] = each.unit
                    known[key][-1] = newest._replace(unit=each.unit)
                elif (changed := next_version(newest, each)) is not None:
                    # One by one: changes are rare, and the next announcement is judged by what this one made.
                    self._add(cursor, [_New(key, *changed)], known)
                    self._note_change(cursor, key, newest, known[key][-1])
        if units:
            execute_values(cursor, _LEARN_UNIT, list(units.items()), page_size=_PAGE_ROWS)

    def _note_change(self, cursor: cursor, key: SeriesKey, before: Version, after: Version) -> None:
        if after.series_id == before.series_id:  # refused
            return
        told = {"kind": key.kind, "version": after.version, "before": before.told(), "after": after.told()}
        if store_events(cursor, [NodeEvent(*key[:4], "series_changed", told, after.valid_from_ms)]):
            logger.warning(
                "%s of %s changes from %s to %s: it goes on as version %d",
                key.metric,
                "/".join(name for name in key[:3] if name),
                before.described(),
                after.described(),
                after.version,
            )

    def _note_kinds(self, cursor: cursor, new: Iterable[_New]) -> None:
        """A number that is now a text, or the other way round, is another series anyway; it is told like a change."""
        others = {key: other_kind(key) for key in (each.key for each in new)}
        found = _look_up(cursor, list(others.values())) if others else {}
        events = [
            NodeEvent(*key[:4], "series_changed", {"kind": key.kind, "version": 1, "before": {"kind": other.kind}})
            for key, other in others.items()
            if other in found
        ]
        store_events(cursor, events)


def _look_up(cursor: cursor, keys: Sequence[SeriesKey]) -> dict[SeriesKey, list[Version]]:
    """All versions of series, the newest last."""
    found: dict[SeriesKey, list[Version]] = {}
    for row in execute_values(cursor, _LOOK_UP, keys, page_size=_PAGE_ROWS, fetch=True):
        found.setdefault(SeriesKey(*row[:5]), []).append(Version(*row[5:]))
    for versions in found.values():
        versions.sort(key=lambda version: version.version)
    return found
