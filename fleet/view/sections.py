"""What there is to tell of one node, a table each: what is asked of the database, and how a row of it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fleet.view.table import BAD, GOOD, WARNING, Column
from fleet.view.wording import UNKNOWN, ago, number, share, span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    Row = Mapping[str, Any]

_LINE_TAKEN: Final = 0.8


@dataclass(frozen=True, slots=True)
class Section:
    """A table: `key` in JSON, `title` and what stands there instead of nothing on a screen."""

    key: str
    title: str
    nothing: str
    statement: str
    columns: tuple[Column[Row], ...]


def _text(key: str, heading: str, least: int | None = None, *, needs: int = 0) -> Column[Row]:
    return Column(
        heading, lambda row, _: UNKNOWN if row[key] is None else str(row[key]), most=200, least=least, needs=needs
    )


def _age(key: str, heading: str) -> Column[Row]:
    return Column(heading, lambda row, now: ago(row[key], now), justify="right")


def _left(row: Row, _now: datetime) -> str:
    day, month = row["quota_left_day"], row["quota_left_month"]
    told = [] if day is None else [f"{number(day)} today"]
    return ", ".join([*told, *([] if month is None else [f"{number(month)} this month"])]) or UNKNOWN


def _used_up(row: Row, _now: datetime) -> str:
    return BAD if 0 in (row["quota_left_day"], row["quota_left_month"]) else ""


def _failed(row: Row, _now: datetime) -> str:
    return UNKNOWN if row["failures"] is None or not row["polls"] else f"{row['failures'] / row['polls']:.1%}"


def _length(row: Row, _now: datetime) -> str:
    return span((row["to_at"] - row["from_at"]).total_seconds())


def _answer(row: Row, _now: datetime) -> str:
    told = row["value"] if row["done"] else row["reason"]
    return UNKNOWN if told is None else str(told)


def _lasts(row: Row, _now: datetime) -> str:
    return "lasts" if row["ended_at"] is None else span((row["ended_at"] - row["started_at"]).total_seconds())


_SOURCES: Final = Section(
    "sources",
    "Sources and models",
    "none was born yet",
    """
    select s.device_id as device, coalesce(status.status, 'unknown') as state, s.metrics, last.at as read_at, c.polls,
           c.failures, c.skipped, h.line_occupancy, h.quota_left_day, h.quota_left_month
    from (select device_id, count(*) filter (where metric not like 'Headwater/%%') as metrics,
                 array_agg(series_id) as ids
          from series where (group_id, node_id) = (%(group)s, %(node)s) and device_id <> '' group by 1) s
    left join lateral (
      select status from node_status n
      where (group_id, node_id) = (%(group)s, %(node)s) and n.device_id in (s.device_id, '')
      order by at desc limit 1) status on true
    left join lateral (
      select max(r.at) as at from unnest(s.ids) id cross join lateral (
        (select sampled_at as at from reading where series_id = id and sampled_at > now() - interval '1 day'
         order by sampled_at desc limit 1)
        union all
        (select sampled_at from reading_text where series_id = id and sampled_at > now() - interval '1 day'
         order by sampled_at desc limit 1)) r) last on true
    left join lateral (
      select max(l.value) filter (where k.metric like '%%/Polls') as polls,
             max(l.value) filter (where k.metric like '%%/Failures') as failures,
             max(l.value) filter (where k.metric like '%%/Skipped Ticks') as skipped
      from series k cross join lateral (
        select value from reading where series_id = k.series_id and sampled_at > now() - interval '1 day'
        order by sampled_at desc limit 1) l
      where (group_id, node_id) = (%(group)s, %(node)s) and k.device_id = '' and k.kind = 'numeric'
        and k.metric in ('Health/' || s.device_id || '/Polls', 'Health/' || s.device_id || '/Failures',
                         'Health/' || s.device_id || '/Skipped Ticks')) c on true
    left join source_health h on (h.group_id, h.node_id, h.device_id) = (%(group)s, %(node)s, s.device_id)
    order by 1
    """,
    (
        _text("device", "Device", 8),
        Column("State", lambda row, _: row["state"], lambda row, _: GOOD if row["state"] == "online" else BAD),
        _age("read_at", "Read"),
        Column("Metrics", lambda row, _: number(row["metrics"]), justify="right"),
        Column("Failed", _failed, lambda row, _: WARNING if row["failures"] else "", "right"),
        Column(
            "Missed", lambda row, _: number(row["skipped"]), lambda row, _: WARNING if row["skipped"] else "", "right"
        ),
        Column(
            "Line",
            lambda row, _: share(row["line_occupancy"]),
            lambda row, _: BAD if (row["line_occupancy"] or 0) >= _LINE_TAKEN else "",
            "right",
        ),
        Column("Left of quota", _left, _used_up, least=8),
    ),
)
_MODELS: Final = Section(
    "models",
    "What computes",
    "no model has told anything",
    """
    select model, version, place, device_id as device, subject, state, told_at
    from node_model where (group_id, node_id) = (%(group)s, %(node)s)
    order by model, place, device_id, subject limit 100
    """,
    (
        _text("model", "Model", 8),
        _text("version", "Version", 8),
        _text("place", "Where"),
        _text("device", "Device", 8),
        _text("state", "State"),
        _age("told_at", "Told"),
    ),
)
_UPDATES: Final = Section(
    "updates",
    "Updates",
    "it was asked for none",
    """
    select substring(s.metric from 8) as what, last.sampled_at as told_at, news ->> 'wanted' as wanted,
           news ->> 'running' as running, news ->> 'state' as state, news ->> 'reason' as reason
    from series s
    cross join lateral (
      select value, sampled_at from reading_text r where r.series_id = s.series_id
      order by sampled_at desc limit 1) last
    cross join lateral json_object_or_null(last.value) news
    where (group_id, node_id) = (%(group)s, %(node)s) and s.device_id = '' and s.kind = 'text'
      and s.metric like 'Update/%%'
    order by 1 limit 100
    """,
    (
        _text("what", "What", 8),
        _text("running", "Runs", 8),
        _text("wanted", "Asked for", 8),
        Column(
            "State",
            lambda row, _: UNKNOWN if row["state"] is None else row["state"],
            lambda row, _: {"confirmed": GOOD, "refused": BAD, "rolled_back": BAD}.get(row["state"], ""),
        ),
        _age("told_at", "Told"),
        _text("reason", "Reason", 8),
    ),
)
_INCIDENTS: Final = Section(
    "incidents",
    "Incidents of a day",
    "nothing unusual",
    """
    select device_id as device, coalesce(nullif(metric, ''), 'all of it') as metric, detector, place, started_at,
           ended_at, peak_score / nullif(threshold, 0) as times_limit
    from anomaly
    where (group_id, node_id) = (%(group)s, %(node)s) and (ended_at is null or ended_at > now() - interval '1 day')
    order by ended_at is not null, started_at desc limit 100
    """,
    (
        _age("started_at", "Since"),
        Column("For", _lasts, lambda row, _: WARNING if row["ended_at"] is None else "", "right"),
        _text("device", "Device", 8),
        _text("metric", "Metric", 8),
        _text("detector", "Detector", 8),
    ),
)
_EVENTS: Final = Section(
    "events",
    "Events of a week",
    "nothing to tell",
    """
    select at, kind, coalesce(nullif(device_id, ''), 'the node') as device, nullif(metric, '') as metric,
           detail::text as detail
    from node_event
    where (group_id, node_id) = (%(group)s, %(node)s) and at > now() - interval '7 days' order by at desc limit 100
    """,
    (
        _age("at", "When"),
        _text("kind", "What", 8),
        _text("device", "Device", 8),
        _text("metric", "Metric", 8),
        _text("detail", "More", 8, needs=100),
    ),
)
_GAPS: Final = Section(
    "gaps",
    "Gaps",
    "nothing is missing",
    """
    select coalesce(nullif(device_id, ''), 'the node') as device, from_at, to_at, coalesce(state, 'declared') as state,
           reason, batches
    from gap
    where (group_id, node_id) = (%(group)s, %(node)s) and (closed_at is null or closed_at > now() - interval '1 day')
    order by closed_at is not null, declared_at desc limit 100
    """,
    (
        _age("from_at", "From"),
        Column("For", _length, justify="right"),
        _text("device", "Device", 8),
        Column("State", lambda row, _: row["state"], lambda row, _: BAD if row["state"] == "given_up" else ""),
        Column("Batches", lambda row, _: number(row["batches"]), justify="right"),
        _text("reason", "Reason", 8),
    ),
)
_COMMANDS: Final = Section(
    "commands",
    "Commands of a week",
    "none was answered",
    """
    select answered_at, coalesce(nullif(device_id, ''), 'the node') as device,
           answer ->> 'command' as command, answer ->> 'done' = 'true' as done,
           answer ->> 'value' as value, answer ->> 'reason' as reason, answer ->> 'command_id' as id
    from command_answer where (group_id, node_id) = (%(group)s, %(node)s) and answered_at > now() - interval '7 days'
    order by answered_at desc limit 100
    """,
    (
        _age("answered_at", "When"),
        _text("device", "Device", 8),
        _text("command", "Command", 8),
        Column("Done", lambda row, _: "yes" if row["done"] else "refused", lambda row, _: GOOD if row["done"] else BAD),
        Column("Answer", _answer, most=200, least=8),
    ),
)
# In the order in which a technician asks.
SECTIONS: Final = (_SOURCES, _MODELS, _UPDATES, _INCIDENTS, _EVENTS, _GAPS, _COMMANDS)
