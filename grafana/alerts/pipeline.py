"""Of the way from the broker into the tables, and of the database itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import uids as boards
from grafana.alerts import uids
from grafana.alerts.rule import COUNT, DURATION, NODE, SHARE, Above, Rule
from grafana.query import table

if TYPE_CHECKING:
    from collections.abc import Sequence

_BOARD: Final = f"/d/{boards.PIPELINE}"
# How large it may get, unless the database says otherwise (docs/alerts.md).
_BOUND: Final = "100 GB"


def rules() -> Sequence[Rule]:
    """What is looked at each minute."""
    return (_database_away(), _ingest_silent(), _ingest_late(), _dead_letters(), _analysis_behind(), _maintenance())


def _database_away() -> Rule:
    """The only one that tells of it; it asks for next to nothing."""
    return Rule(
        uids.DATABASE_AWAY,
        "Database away",
        "critical",
        table("select 0 as away"),
        Above(0),
        "2m",
        "The database does not answer Grafana: no other alert can be told.",
        "Grafana was refused, or got no answer within 30 s. Readings wait in Kafka meanwhile, for as long as its "
        "retention.",
        _BOARD,
        no_rows="Alerting",
        failed="Alerting",
    )


def _ingest_silent() -> Rule:
    """While no node is connected there is nothing to store."""
    return Rule(
        uids.INGEST_SILENT,
        "Ingest silent",
        "critical",
        table("""
            select case when exists (select from node where online)
                        then greatest(extract(epoch from now() - committed_at), 0) else 0 end::float8 as silent_s
            from ingest_batch
            order by committed_at desc limit 1
        """),
        Above(120),
        "1m",
        f"Nothing has been stored for {DURATION}.",
        "Nodes are connected, and tell of themselves every ten seconds, but no batch was committed: broker, bridge, "
        "Kafka or stream stand still.",
        _BOARD,
    )


def _ingest_late() -> Rule:
    """By the best of five minutes: one slow batch is none of anybody's business."""
    return Rule(
        uids.INGEST_LATE,
        "Ingest late",
        "warning",
        table("""
            select (min(latency_p99_ms) / 1000)::float8 as late_s from ingest_minute
            where minute > now() - interval '6 minutes' and latency_p99_ms is not null
            having count(*) > 0
        """),
        Above(10, until=5),
        "5m",
        f"Readings come {DURATION} late into the tables.",
        "One in a hundred, in each of the last five minutes; a second is usual. Records wait in Kafka, or in the "
        "bridge.",
        _BOARD,
    )


def _dead_letters() -> Rule:
    return Rule(
        uids.DEAD_LETTERS,
        "Dead letters",
        "warning",
        table("""
            select coalesce(split_part(mqtt_topic, '/', 2), '') as "group",
                   coalesce(split_part(mqtt_topic, '/', 4), '') as node,
                   (count(*) filter (where set_aside_at > now() - interval '1 hour' and retried_at is null))::float8
                     as letters
            from dead_letter
            where set_aside_at > now() - interval '2 hours'
            group by 1, 2
        """),
        Above(0),
        "0s",
        f"{COUNT} payloads or metrics of {NODE} were set aside within an hour.",
        "They came and could not be stored. What was set aside is kept, with the reason, and can be sent again.",
        _BOARD,
    )


def _analysis_behind() -> Rule:
    return Rule(
        uids.ANALYSIS_BEHIND,
        "Analysis behind",
        "warning",
        table("select sum(behind)::float8 as records from analysis_lag having count(*) > 0"),
        Above(100_000, until=20_000),
        "15m",
        f"{COUNT} records are stored and not yet analysed.",
        "Bars, trends, anomalies and forecasts are late, and so are alerts of anomalies. Readings are not.",
        _BOARD,
    )


def _maintenance() -> Rule:
    """The Apache edition's alone: on the other there are no notes."""
    return Rule(
        uids.MAINTENANCE_BEHIND,
        "Maintenance behind",
        "warning",
        table("""
            select coalesce(greatest(extract(epoch from now() - min(noted_at)), 0), 0)::float8 as waiting_s
            from rollup_pending
        """),
        Above(1800, until=300),
        "5m",
        f"Roll-ups are {DURATION} behind.",
        "`db maintain` does not run, or does not keep up: dashboards of long times lack what is new, and nothing that "
        "is past its retention goes.",
        _BOARD,
    )


def database_large() -> Rule:
    """The size is that of files, which takes some milliseconds for each thousand chunks."""
    return Rule(
        uids.DATABASE_LARGE,
        "Database large",
        "warning",
        table(f"""
            select pg_database_size(current_database())::float8
                   / pg_size_bytes(coalesce(nullif(current_setting('headwater.size_bound', true), ''), '{_BOUND}'))
                     as share
        """),
        Above(0.8, until=0.75),
        "10m",
        f"The database takes {SHARE} of the room that it may take.",
        f"The bound is {_BOUND}, or what `headwater.size_bound` says. When its disk is full PostgreSQL stops, and "
        "readings wait in Kafka.",
        _BOARD,
    )
