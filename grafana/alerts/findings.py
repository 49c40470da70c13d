"""Of what is found in readings: models that are no longer worth asking, and what is unusual."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana import uids as boards
from grafana.alerts import uids
from grafana.alerts.rule import NODE, NODE_BOARD, TIMES, Above, Rule
from grafana.query import table

if TYPE_CHECKING:
    from collections.abc import Sequence


def skill() -> Rule:
    """Each forecaster looks up its own scores: the view `forecast_skill` would add up those of all times."""
    return Rule(
        uids.SKILL_GONE,
        "Forecast skill gone",
        "warning",
        table("""
            select f.group_id as "group", f.node_id as node, f.device_id as device, f.subject, f.model, f.version,
                   f.place, f.target, scored.mase
            from forecaster f
            cross join lateral (
              select (sum(abs(c.error)) filter (where c.naive_error is not null)
                       / nullif(sum(abs(c.naive_error)), 0))::float8 as mase, count(*) as forecasts,
                     max(c.target_at) as newest_at
              from forecast_score c
              where c.forecaster_id = f.forecaster_id and c.target_at between now() - interval '1 day' and now()
            ) scored
            where scored.mase is not null and scored.forecasts >= 50
              and scored.newest_at > now() - interval '2 hours'
        """),
        # A price is close to what cannot be forecast: near 1 there is nothing to tell.
        Above(1.1, until=1.0),
        "30m",
        "{{ .Labels.model }} {{ .Labels.version }} ({{ .Labels.place }}) forecasts {{ .Labels.target }} "
        f"{{{{ .Labels.subject }}}} of {{{{ .Labels.device }}}} on {NODE} worse than saying that nothing changes: "
        f"{TIMES} times its error.",
        "By all forecasts whose time came within a day, at least 50. The process has changed, a sensor has, or the "
        "model is the wrong one.",
        f"/d/{boards.HOME}",
    )


def anomaly() -> Rule:
    """A row for what lasts, and for what has ended within the hour: the alert ends with it.

    Incidents are kept for ever, and found by their start: one that lasts longer than a month is how things are.
    """
    return Rule(
        uids.ANOMALY,
        "Anomaly",
        "warning",
        table("""
            select a.group_id as "group", a.node_id as node, a.device_id as device,
                   coalesce(nullif(a.metric, ''), 'the whole device') as metric,
                   max(case when a.ended_at is not null then 0
                            else coalesce(a.peak_score / nullif(a.threshold, 0), 1) end)::float8 as times_limit
            from anomaly a
            where (a.ended_at is null or a.ended_at > now() - interval '1 hour')
              and a.started_at > now() - interval '30 days'
            group by 1, 2, 3, 4
        """),
        Above(0),
        "5m",
        f"{{{{ .Labels.metric }}}} of {{{{ .Labels.device }}}} on {NODE} is unusual, at worst {TIMES} times the limit.",
        "It has lasted for five minutes at least, by the stream's detectors, a model here or one on the device.",
        NODE_BOARD,
    )


def rules() -> Sequence[Rule]:
    """What is looked at each minute."""
    return (anomaly(),)
