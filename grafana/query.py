"""A query of a panel: SQL for the one data source that there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef

SOURCE_TYPE: Final = "grafana-postgresql-datasource"
SOURCE_UID: Final = "headwater"

Shape = Literal["time_series", "table"]


def source() -> DataSourceRef:
    """The data source, as provisioning/datasources/headwater.yaml names it."""
    return DataSourceRef(SOURCE_TYPE, SOURCE_UID)


@dataclass(frozen=True, slots=True)
class Sql(Builder[Dataquery], Dataquery):
    """A statement; a time series has a column `time`, in order, and numbers, each by the texts of its row."""

    text: str
    shape: Shape
    ref: str = "A"

    def build(self) -> Dataquery:
        """Itself: it has nothing to be chosen."""
        return self

    def to_json(self) -> dict[str, object]:
        """What Grafana keeps of it."""
        return {
            "datasource": source(),
            "editorMode": "code",
            "format": self.shape,
            "rawQuery": True,
            "rawSql": self.text,
            "refId": self.ref,
        }


def series(text: str) -> Sql:
    """Values over time."""
    return Sql(_tidy(text), "time_series")


def table(text: str) -> Sql:
    """Rows as they are."""
    return Sql(_tidy(text), "table")


# Of a whole fleet: half a day by the interval, a week by the hour, and more by six.
WIDE: Final = """case
              when $__timeTo()::timestamptz - $__timeFrom()::timestamptz > interval '8 days' then interval '6 hours'
              when $__timeTo()::timestamptz - $__timeFrom()::timestamptz > interval '12 hours' then interval '1 hour'
              else '$__interval'::interval end"""


def readings(condition: str, *, value: str = "mean", name: str = "s.metric") -> Sql:
    """Readings of the series `s` that meet a condition, by `$__interval`, from the roll-up that this is a multiple of.

    A call for each series, since a call with a subquery as its argument is not inlined, and then reads every chunk.
    """
    return series(f"""
        select r.bucket_at as time, {name} as metric, r.{value} as value
        from series s
        cross join lateral reading_bucketed(array[s.series_id], $__timeFrom(), $__timeTo(), '$__interval') r
        where s.kind = 'numeric' and {condition}
        order by 1
    """)


def _tidy(text: str) -> str:
    """Without the indentation of its first line; parts that were put in may have less."""
    lines = text.strip("\n").splitlines()
    indented = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[min(indented, len(line) - len(line.lstrip())) :] for line in lines).strip()
