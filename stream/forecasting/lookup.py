"""What the database has of the devices that models look at: their series, and how far these have come."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from stream.forecasting.readings import text_of
from stream.forecasting.watched import Device

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg2.extensions import cursor

    from stream.forecasting.watched import Dictionary

# Of a metric that has changed its type or unit, the newest version is looked at.
_SERIES: Final = """
select distinct on (group_id, node_id, device_id, metric) group_id, node_id, device_id, metric, series_id
  from series s
 where kind = %s and exists (
   select from unnest(%s::text[], %s::text[]) as wanted (device, metric)
    where concat_ws('/', s.group_id, s.node_id, s.device_id) ~ wanted.device and s.metric ~ wanted.metric)
 order by group_id, node_id, device_id, metric, version desc
"""
_NEWEST: Final = """
select wanted.series_id, (extract(epoch from newest.sampled_at) * 1000)::bigint
  from unnest(%(ids)s::int[]) as wanted (series_id)
 cross join lateral (
   select sampled_at from reading
    where series_id = wanted.series_id
      and sampled_at >= %(first)s::timestamptz and sampled_at <= %(last)s::timestamptz
    order by sampled_at desc limit 1) as newest
"""
_OLDEST: Final = """
select (extract(epoch from min(oldest.sampled_at)) * 1000)::bigint
  from unnest(%(ids)s::int[]) as wanted (series_id)
 cross join lateral (
   select sampled_at from reading
    where series_id = wanted.series_id
      and sampled_at >= %(first)s::timestamptz and sampled_at <= %(last)s::timestamptz
    order by sampled_at limit 1) as oldest
"""
_COUNTS: Final = """
select wanted.series_id, found.bucket, found.readings
  from unnest(%(ids)s::int[]) as wanted (series_id)
 cross join lateral (
   select (extract(epoch from sampled_at) * 1000)::bigint / %(bucket)s * %(bucket)s as bucket, count(*) as readings
     from reading
    where series_id = wanted.series_id and sampled_at >= %(first)s::timestamptz and sampled_at < %(last)s::timestamptz
    group by 1) as found
"""
_TEXTS: Final = """
(select (extract(epoch from sampled_at) * 1000)::bigint, value from reading_text
  where series_id = %(id)s and sampled_at < %(first)s::timestamptz and value is not null
    and sampled_at >= %(first)s::timestamptz - interval '7 days'
  order by sampled_at desc limit 1)
union all
(select (extract(epoch from sampled_at) * 1000)::bigint, value from reading_text
  where series_id = %(id)s and sampled_at >= %(first)s::timestamptz and sampled_at < %(last)s::timestamptz
    and value is not null
  order by sampled_at)
"""


def dictionary(cursor: cursor, kind: str, patterns: Iterable[tuple[str, str]]) -> Dictionary:
    """The series of a kind whose device and metric match one of the pairs of regular expressions."""
    wanted = sorted(set(patterns))
    cursor.execute(_SERIES, (kind, [device for device, _ in wanted], [metric for _, metric in wanted]))
    found: Dictionary = defaultdict(dict)
    for *device, metric, number in cursor.fetchall():
        found[Device(*device)][metric] = number
    return dict(found)


def newest_ms(cursor: cursor, series: Sequence[int], from_ms: int, to_ms: int) -> dict[int, int]:
    """When each series was last sampled within this time; one that was not is not there."""
    cursor.execute(_NEWEST, {"ids": list(series), "first": text_of(from_ms), "last": text_of(to_ms)})
    return dict(cursor.fetchall())


def oldest_ms(cursor: cursor, series: Sequence[int], from_ms: int, to_ms: int) -> int | None:
    """When any of them was first sampled within this time; None where none was."""
    cursor.execute(_OLDEST, {"ids": list(series), "first": text_of(from_ms), "last": text_of(to_ms)})
    ((found,),) = cursor.fetchall()
    return None if found is None else int(found)


def counts(
    cursor: cursor, series: Sequence[int], from_ms: int, to_ms: int, bucket_ms: int
) -> dict[tuple[int, int], int]:
    """How many readings each series has in each bucket of this time: (series, begin of the bucket in ms) -> number."""
    given = {"ids": list(series), "first": text_of(from_ms), "last": text_of(to_ms), "bucket": bucket_ms}
    cursor.execute(_COUNTS, given)
    return {(number, bucket): count for number, bucket, count in cursor.fetchall()}


def texts(cursor: cursor, series: int, from_ms: int, to_ms: int) -> list[tuple[int, str]]:
    """What a series of texts told within this time, and last before it, by time in ms."""
    cursor.execute(_TEXTS, {"id": series, "first": text_of(from_ms), "last": text_of(to_ms)})
    return cursor.fetchall()
