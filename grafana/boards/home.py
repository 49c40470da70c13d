"""Home: whether all is well, and the way to every other dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboardlist

from grafana import colours, uids, units
from grafana.board import TAG, Board, to
from grafana.fields import Field, like, limits, link, named, unit, width
from grafana.incidents import incidents
from grafana.layout import Row
from grafana.nodes import NODE_COLUMNS, STATE
from grafana.panels import About, lines, number, rows
from grafana.query import series, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.layout import AnyPanel


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.HOME,
        "Headwater",
        "Is all well, and where do I look if not?",
        rows=(
            Row(
                5, (_nodes_away(), _stored_now(), _missing_batches(), _open_incidents(), _skill_of_a_day(), _tampered())
            ),
            Row(11, (_dashboards(), _unusual()), widths=(8, 16)),
            Row(9, (_stored(), _away())),
        ),
        refresh="30s",
    )


def _leads_to(uid: str, title: str) -> Sequence[Field]:
    return (like("/.*/", link(title, to(uid))),)


def _nodes_away() -> AnyPanel:
    return number(
        About("Nodes away", "How many nodes are silent or offline?", units.COUNT, "no nodes yet"),
        table(f"""
            select count(*) filter (where {STATE} < 2) as away from node n
        """),
        limits=limits((1, colours.BAD), base=colours.GOOD),
        fields=_leads_to(uids.FLEET, "Fleet"),
    )


def _stored_now() -> AnyPanel:
    return number(
        About("Stored", "How many readings a second come in?", units.READINGS_PER_SECOND, "nothing is stored"),
        table("""
            select coalesce(sum(reading_rows + text_rows), 0)::float8 / 60 as rate
            from ingest_batch where committed_at > now() - interval '1 minute'
        """),
        limits=limits((0.001, colours.GOOD), base=colours.BAD),
        fields=_leads_to(uids.PIPELINE, "Pipeline"),
    )


def _missing_batches() -> AnyPanel:
    return number(
        About("Missing batches", "Is anything lost?", units.COUNT, "nothing came yet"),
        table("select sum(undelivered + given_up)::float8 as missing from node_accounting"),
        limits=limits((1, colours.BAD), base=colours.GOOD),
        fields=_leads_to(uids.PIPELINE, "Pipeline"),
    )


def _open_incidents() -> AnyPanel:
    return number(
        About("Open incidents", "Is anything unusual at this moment?", units.COUNT, "nothing was analysed yet"),
        table("select count(*) as incidents from anomaly where ended_at is null"),
        limits=limits((1, colours.WARNING), base=colours.GOOD),
        fields=_leads_to(uids.PLANT, "Plant"),
    )


def _skill_of_a_day() -> AnyPanel:
    return number(
        About(
            "Skill of a day",
            "Are forecasts better than saying that nothing changes? Below 1 they are (MASE, median of models).",
            units.NONE,
            "nothing was scored within a day",
        ),
        table("""
            select percentile_cont(0.5) within group (order by mase) as mase from (
              select sum(abs(error)) / nullif(sum(abs(naive_error)), 0) as mase
              from forecast_score where target_at > now() - interval '1 day' and naive_error is not null
              group by forecaster_id) scored
        """),
        limits=limits((1, colours.BAD), base=colours.GOOD),
        fields=_leads_to(uids.MARKET, "Market"),
    )


def _tampered() -> AnyPanel:
    return number(
        About("Tampered cameras", "Is a camera covered, moved or frozen?", units.COUNT, "no camera yet"),
        table("""
            select count(*) filter (where told.value <> 'none') as tampered
            from series s
            cross join lateral (
              select value from reading_text r
              where r.series_id = s.series_id and r.sampled_at > now() - interval '1 day'
              order by r.sampled_at desc limit 1) told
            where s.kind = 'text' and s.metric = 'tamper'
        """),
        limits=limits((1, colours.BAD), base=colours.GOOD),
        fields=_leads_to(uids.CAMERAS, "Cameras"),
    )


def _dashboards() -> AnyPanel:
    return (
        dashboardlist.Panel()
        .title("Dashboards")
        .description("Where to look: the fleet and its nodes, the plant, the market, weather, cameras, the pipeline.")
        .show_search(show_search=True)
        .show_starred(show_starred=False)
        .show_recently_viewed(show_recently_viewed=False)
        .show_headings(show_headings=False)
        .max_items(20)
        .tags([TAG])
    )


def _stored() -> AnyPanel:
    return lines(
        About("Readings stored", "Does data come in as always?", units.READINGS_PER_SECOND, "nothing was stored"),
        series("""
            select bucket_at as time, stored_rows / extract(epoch from '$__interval'::interval)::float8 as stored
            from ingest_bucketed($__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        floor=0,
        fill=15,
        least="10s",
    )


def _away() -> AnyPanel:
    return rows(
        About("Nodes that are away", "Which ones, and since when?", units.NONE, "all nodes are there"),
        table(f"""
            select n.node_id as "Node", n.group_id as "Group", n.last_seen_at as "Seen", n.last_death_at as "Died"
            from node n where {STATE} < 2
            order by last_seen_at desc limit 100
        """),
        fields=(*NODE_COLUMNS, *(named(each, unit(units.AGO), width(160)) for each in ("Seen", "Died"))),
    )


def _unusual() -> AnyPanel:
    return incidents("Newest incidents", "What was unusual lately?", "true", "Place", "Times limit", "Model")
