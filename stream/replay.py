"""`python -m stream replay`: what is worked out of readings, worked out again for a span of time."""

from __future__ import annotations

import argparse
import logging
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from contract.config import ConfigError
from stream.analysis.lasting import Lasting
from stream.analysis.replay import Replayed, Stored, replay
from stream.analysis.span import HOUR_MS, Span
from stream.analysis.symbols import beside, word
from stream.connection import check_tables, connect, translated
from stream.errors import FatalError
from stream.ingest.columns import SeriesName
from stream.progress import Progress
from stream.replay_order import wait_for_ingest
from stream.turn import in_turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from psycopg2.extensions import cursor
    from pyspark.sql import SparkSession

    from stream.analysis.config import AnalysisConfig
    from stream.config import StreamConfig

logger = logging.getLogger(__name__)

_SERIES: Final = """
select group_id, node_id, device_id, metric, max(datatype), array_agg(series_id order by version)
from series where kind = 'numeric' group by group_id, node_id, device_id, metric
order by group_id, node_id, device_id, metric
"""
_LATE: Final = """
select series_id, (extract(epoch from bucket_at) * 1000)::bigint from late_reading order by bucket_at, series_id
"""
_BEGINNING_MS: Final = 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser], epilog: str) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "replay",
        help="work out bars, trends, anomalies, forecasts and scores again",
        description="Works out bars, trends and anomalies, and forecasts and their scores where models are configured, "
        "of a span of time again, in place of what there is of it. The job may run meanwhile.",
        epilog=epilog,
    )
    parser.add_argument("config", type=Path, help="the configuration that the job runs with")
    parser.add_argument("--from", dest="begin", type=_time, metavar="T", help="ISO 8601, UTC unless it says otherwise")
    parser.add_argument("--to", dest="end", type=_time, metavar="T", help="likewise; without it, up to now")
    parser.add_argument(
        "--source",
        choices=("reading", "kafka"),
        default="reading",
        help="reading: from the table, in order of time, what came late included (default); kafka: from the log as it "
        "came, as far back as it reaches",
    )
    parser.add_argument("--series", metavar="GLOB", help="group/node/device/metric, such as 'plant/*/tank1/level'")
    parser.add_argument("--late", action="store_true", help="the hours and series noted in late_reading, no others")
    parser.add_argument("--warm-up-h", type=float, default=24, metavar="H", help="hours before it that detectors see")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be worked out again")


def run(options: argparse.Namespace, config: StreamConfig, tell: Callable[[str], None]) -> int:
    """Run the command; its exit status. Raises ConfigError, FatalError, DatabaseAway."""
    _check(options, config)
    settings = config.analysis
    assert settings is not None  # _check has seen to it
    dsn, now_ms = config.database.dsn(), time.time_ns() // 1_000_000
    check_tables(dsn)
    span = Span(
        _BEGINNING_MS if options.begin is None else options.begin,
        now_ms if options.end is None else min(options.end, now_ms),
        now_ms,
        round(options.warm_up_h * HOUR_MS),
        settings.widest_ms,
    )
    if options.source == "kafka":
        return _from_kafka(config, settings, dsn, span, tell, dry_run=options.dry_run)
    stored = stored_series(dsn, options.series or "*", settings)
    if options.late:
        # Before it is looked what is noted: what is noted later is for the next time.
        wait_for_ingest(dsn, config.topics.payloads, tell)
    work = _late(dsn, stored, span, settings) if options.late else [(span, stored)]
    for each, series in work:
        tell(f"{_text(each.from_ms)} to {_text(each.to_ms)}: {len(series)} series")
    if options.dry_run:
        return 0
    for each, series in work:
        made = replay(settings, dsn, series, each, config.limits.max_series_per_node)
        tell(f"made again: {_figures(made)}")
    if config.forecasting is not None and options.series is None and not options.late:
        _forecasts(config, dsn, span, tell)
    return 0


def stored_series(dsn: str, glob: str, settings: AnalysisConfig) -> list[Stored]:
    """The numeric series that a glob finds; a price brings its volume along, and a volume its price."""
    with closing(connect(dsn)) as opened, translated(opened), opened.cursor() as cursor:
        cursor.execute(_SERIES)
        rows = cursor.fetchall()
    found = [Stored(SeriesName(*row[:4]), row[4], tuple(row[5])) for row in rows]
    chosen = {each.name for each in found if fnmatchcase("/".join(each.name), glob)}
    return _with_partners(found, chosen, settings)


def _with_partners(stored: Sequence[Stored], chosen: set[SeriesName], settings: AnalysisConfig) -> list[Stored]:
    words = {settings.price, settings.volume}
    wanted = chosen | {beside(name, other) for name in chosen if word(name) in words for other in words}
    return [each for each in stored if each.name in wanted]


def _late(dsn: str, stored: Sequence[Stored], span: Span, settings: AnalysisConfig) -> list[tuple[Span, list[Stored]]]:
    """The hours of which readings came late, those that follow each other together, and their series."""
    name_of = {number: each.name for each in stored for number in each.ids}
    with closing(connect(dsn)) as opened, translated(opened), opened.cursor() as cursor:
        cursor.execute(_LATE)
        noted = [(number, at_ms) for number, at_ms in cursor.fetchall() if span.from_ms <= at_ms < span.to_ms]
    runs: list[tuple[int, int, set[int]]] = []
    for number, at_ms in noted:
        if runs and at_ms <= runs[-1][1]:
            begin_ms, _, numbers = runs.pop()
            runs.append((begin_ms, at_ms + HOUR_MS, numbers | {number}))
        else:
            runs.append((at_ms, at_ms + HOUR_MS, {number}))
    return [
        (
            replace(span, from_ms=begin_ms, to_ms=min(end_ms, span.now_ms)),
            _with_partners(stored, {name_of[number] for number in numbers & name_of.keys()}, settings),
        )
        for begin_ms, end_ms, numbers in runs
    ]


def _from_kafka(
    config: StreamConfig,
    settings: AnalysisConfig,
    dsn: str,
    span: Span,
    tell: Callable[[str], None],
    *,
    dry_run: bool,
) -> int:
    span = _in_log(config, span, tell)
    since = "its beginning" if span.from_ms == _BEGINNING_MS else _text(span.from_ms - span.warm_up_ms)
    tell(f"{_text(span.from_ms)} to {_text(span.to_ms)}: all series, by Kafka's log from {since} on")
    if dry_run:
        return 0
    from stream.analysis.job import Analysis, forget_checkpoint  # noqa: PLC0415  # heavy: loaded where it is used
    from stream.analysis.writer import AnalysisWriter  # noqa: PLC0415  # as above
    from stream.query import Supervisor  # noqa: PLC0415  # as above

    stop, progress, lasting = threading.Event(), Progress(), Lasting(span.now_ms)

    def drop(cursor: object) -> None:
        lasting.gone(span.drop(cursor))  # type: ignore[arg-type]  # psycopg2's
        span.drop_late(cursor)  # type: ignore[arg-type]  # psycopg2's

    topic, most = config.topics.payloads, config.limits.max_series_per_node
    writing = AnalysisWriter(dsn, topic, stop, progress, drop, max_series_per_node=most)
    with _spark(config) as spark, closing(writing) as writer:
        query = Analysis(spark, config, settings, writer, span)
        forget_checkpoint(spark, query.checkpoint_dir)
        Supervisor(spark, query, stop, config.stop_timeout_s).run(once=True)
        forget_checkpoint(spark, query.checkpoint_dir)
    if progress.batches:
        # Or nothing was taken out.
        with closing(connect(dsn)) as opened, translated(opened):
            in_turn(opened, "analysis", lambda cursor: _settle(cursor, lasting, span))
    tell(f"made again: {progress.rows} rows in {progress.batches} batches")
    return 0


def _settle(cursor: cursor, lasting: Lasting, span: Span) -> None:
    lasting.look(cursor, span.from_ms, span.to_ms)
    lasting.settle(cursor, {})


def _in_log(config: StreamConfig, span: Span, tell: Callable[[str], None]) -> Span:
    """What of the span Kafka's log can make whole: the rest is not deleted, for it would not come back."""
    from stream.reach import whole_since_ms  # noqa: PLC0415  # heavy: loaded where it is used

    found = span.since(whole_since_ms(config))
    if found.from_ms >= found.to_ms:
        raise FatalError(f"of {_text(span.from_ms)} to {_text(span.to_ms)} Kafka's log has no whole bars any more")
    if found != span:
        tell(f"what is before {_text(found.from_ms)} stays: Kafka's log does not go back far enough")
    # The query reads from the warm-up on, and bars that reach into the span may begin before that.
    return replace(found, warm_up_ms=found.from_ms - found.reads_from_ms)


def _forecasts(config: StreamConfig, dsn: str, span: Span, tell: Callable[[str], None]) -> None:
    from stream.forecasting.replay import replay as replay_forecasts  # noqa: PLC0415  # heavy: loaded where it is used

    assert config.forecasting is not None  # the caller has looked
    with _spark(config) as spark:
        made = replay_forecasts(spark, config.forecasting, dsn, span.from_ms, span.to_ms)
    tell(f"made again: {made.windows} windows of models, {made.forecasts} forecasts, {made.scored} scores")


@contextmanager
def _spark(config: StreamConfig) -> Iterator[SparkSession]:
    from stream.scratch import scratch_dir  # noqa: PLC0415  # heavy: loaded where it is used
    from stream.session import start  # noqa: PLC0415  # as above

    with scratch_dir(f"{config.checkpoint_dir}-replay") as scratch:
        spark = start(config.spark, scratch)
        try:
            yield spark
        finally:
            spark.stop()


def _check(options: argparse.Namespace, config: StreamConfig) -> None:
    if config.analysis is None:
        raise ConfigError("the configuration has no analysis: there is nothing to replay")
    if options.begin is None and not options.late and options.source == "reading":
        raise ConfigError("--from is missing: give it, or --late, or --source kafka for the whole log")
    if options.source == "kafka" and (options.series or options.late):
        raise ConfigError("--source kafka goes by the log as it came: not with --series or --late")
    if options.begin is not None and options.end is not None and options.end <= options.begin:
        raise ConfigError("--to is not after --from")


def _time(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no time of ISO 8601, such as 2026-11-22T08:00Z") from exc
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _text(at_ms: int) -> str:
    return datetime.fromtimestamp(max(at_ms, 0) / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _figures(made: Replayed) -> str:
    return (
        f"{made.bars} rows of bars, {made.trends} trends and {made.anomalies} rows of anomalies "
        f"out of {made.readings} readings of {made.series} series"
    )
