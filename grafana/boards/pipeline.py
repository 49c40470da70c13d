"""Pipeline: from what nodes made to what is in the tables, how fast, how late, and what got lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grafana import colours, uids, units
from grafana.board import Board
from grafana.boards.losses import accounting, letters, reasons, told_gaps
from grafana.fields import colour, lamp, limits, named, thresholds, unit, width
from grafana.layout import Row
from grafana.panels import About, lines, number, rows
from grafana.query import series, table

if TYPE_CHECKING:
    from grafana.layout import AnyPanel

_NO_BATCH: Final = "the stream has committed nothing in this time"
_PER_S: Final = "extract(epoch from '$__interval'::interval)::float8"


def board() -> Board:
    """The dashboard."""
    return Board(
        uids.PIPELINE,
        "Pipeline",
        "Does all that is made arrive, how fast, and if not: where is it?",
        rows=(
            Row(4, (_stored_now(), _latency_now(), _silent(), _letters_of_a_day(), _missing_batches(), _size())),
            Row(9, (_rates(), _latency())),
            Row(9, (_waiting(), _pauses(), _behind()), "Lag"),
            Row(9, (letters(), reasons()), "Set aside"),
            Row(9, (accounting(), told_gaps()), "Loss accounting", widths=(14, 10)),
            Row(10, (_sizes(), _jobs()), "Database"),
        ),
    )


def _stored_now() -> AnyPanel:
    return number(
        About("Stored", "How many readings a second come in now?", units.READINGS_PER_SECOND, _NO_BATCH),
        table("""
            select sum(reading_rows + text_rows)::float8 / 60 as rate from ingest_batch
            where committed_at > now() - interval '1 minute'
        """),
    )


def _latency_now() -> AnyPanel:
    return number(
        About(
            "Latency, p99",
            "How long from a sample to its row, for all but one in a hundred, in the last minute?",
            units.MILLISECONDS,
            _NO_BATCH,
        ),
        table("""
            select max(latency_p99_ms) as p99 from ingest_batch
            where committed_at > now() - interval '1 minute'
        """),
        limits=limits((1500, colours.NOTE), (5000, colours.BAD), base=colours.GOOD),
    )


def _silent() -> AnyPanel:
    return number(
        About("Silent for", "When did the stream commit last?", units.SECONDS, "nothing was ever committed"),
        table("select extract(epoch from now() - max(committed_at))::float8 as silent from ingest_batch"),
        limits=limits((15, colours.NOTE), (60, colours.BAD), base=colours.GOOD),
    )


def _letters_of_a_day() -> AnyPanel:
    return number(
        About("Dead letters of a day", "How much was set aside since yesterday?", units.COUNT, "none"),
        table("select count(*) as letters from dead_letter where set_aside_at > now() - interval '1 day'"),
        limits=limits((1, colours.NOTE), (100, colours.BAD), base=colours.GOOD),
    )


def _missing_batches() -> AnyPanel:
    return number(
        About("Missing batches", "How many batches of all nodes never came?", units.COUNT, "no node yet"),
        table("select sum(undelivered + given_up)::float8 as missing from node_accounting"),
        limits=limits((1, colours.BAD), base=colours.GOOD),
    )


def _size() -> AnyPanel:
    return number(
        About("Database", "How large is it?", units.BYTES, "no database"),
        table("select pg_database_size(current_database()) as bytes"),
    )


def _rates() -> AnyPanel:
    return lines(
        About(
            "Rates",
            "How many messages does the bridge bring, and how many of their readings are stored, delivered twice, set "
            "aside and analysed?",
            units.PER_SECOND,
            _NO_BATCH,
        ),
        series(f"""
            select bucket_at as time, records / {_PER_S} as "messages bridged",
                   stored_rows / {_PER_S} as stored, duplicate_rows / {_PER_S} as "delivered again",
                   dead_letter_rows / {_PER_S} as "set aside"
            from ingest_bucketed($__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        series(f"""
            select bucket_at as time, readings / {_PER_S} as analysed, late_rows / {_PER_S} as "too late to analyse"
            from analysis_bucketed($__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        fields=(
            named("messages bridged", colour(colours.ARRIVED)),
            named("stored", colour(colours.MEASURED)),
            named("analysed", colour(colours.EXPECTED)),
            named("delivered again", colour(colours.OFF)),
            named("set aside", colour(colours.BAD)),
            named("too late to analyse", colour(colours.NOTE)),
        ),
        floor=0,
        least="10s",
    )


def _latency() -> AnyPanel:
    return lines(
        About(
            "Latency",
            "How long from a sample to its row? The median is weighted by rows; p99 and most are the worst batch's.",
            units.MILLISECONDS,
            _NO_BATCH,
        ),
        series("""
            select bucket_at as time, latency_p50_ms as median, latency_p99_ms as p99, latency_max_ms as most
            from ingest_bucketed($__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        fields=(
            named("median", colour(colours.GOOD)),
            named("p99", colour(colours.WARNING)),
            named("most", colour(colours.BAD)),
        ),
        limits=limits((1500, colours.LIMIT), base="transparent"),
        floor=0,
        least="10s",
    )


def _waiting() -> AnyPanel:
    return lines(
        About(
            "Waiting in Kafka",
            "How many messages has the bridge brought that are not stored yet? Of the fullest partition, as the job "
            "sees it every few seconds.",
            units.COUNT,
            _NO_BATCH,
        ),
        series("""
            select bucket_at as time, records_waiting as waiting
            from ingest_bucketed($__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        limits=limits((100_000, colours.LIMIT), base="transparent"),
        floor=0,
        least="10s",
    )


def _pauses() -> AnyPanel:
    return lines(
        About(
            "Pauses between commits",
            "Was the stream, or the database, away? Half a second is usual.",
            units.SECONDS,
            _NO_BATCH,
        ),
        series("""
            select bucket_at as time, pause_s as pause
            from ingest_bucketed($__timeFrom(), $__timeTo(), '$__interval') order by 1
        """),
        limits=limits((60, colours.LIMIT), base="transparent"),
        floor=0,
        least="10s",
    )


def _behind() -> AnyPanel:
    return rows(
        About(
            "Analysis behind ingest",
            "How many messages are stored and not yet analysed?",
            units.COUNT,
            "the stream has committed nothing yet",
        ),
        table("""
            select topic as "Topic", partition::int as "Partition", ingested as "Stored up to",
                   analysed as "Analysed up to", behind as "Behind"
            from analysis_lag order by behind desc, topic, partition limit 100
        """),
        fields=(
            named("Behind", lamp(), thresholds((10_000, colours.NOTE), (1_000_000, colours.BAD), base="transparent")),
        ),
    )


def _sizes() -> AnyPanel:
    return rows(
        About("Tables", "What takes the room, and how long is it kept?", units.BYTES, "no tables"),
        table("""
            select table_name as "Table", bytes as "Size", coalesce(keep::text, 'forever') as "Kept" from table_size
            order by bytes desc, table_name limit 100
        """),
    )


def _jobs() -> AnyPanel:
    return rows(
        About(
            "Jobs",
            "Are roll-ups up to date, and do TimescaleDB's own jobs run? Where the first line waits ever longer, "
            "`db maintain` does not run.",
            units.SECONDS,
            "no job",
        ),
        table("""
            select 'roll-ups: ' || count(*) || ' notes wait' as "Job", null::timestamptz as "Ran last",
                   null as "Status", coalesce(extract(epoch from now() - min(noted_at)), 0)::float8 as "Waits for"
            from rollup_pending
            union all
            select j.application_name, s.last_run_started_at, s.last_run_status,
                   extract(epoch from now() - s.next_start)::float8
            from timescaledb_information.jobs j left join timescaledb_information.job_stats s using (job_id)
            where j.scheduled
        """),
        fields=(
            named("Ran last", unit(units.AGO), width(130)),
            named(
                "Waits for",
                lamp(),
                thresholds((300, colours.NOTE), (1800, colours.BAD), base="transparent"),
                width(100),
            ),
        ),
    )
