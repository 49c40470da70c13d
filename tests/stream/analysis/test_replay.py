"""The command between a real Kafka and a real TimescaleDB."""

from __future__ import annotations

import threading
import uuid
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from kafka import KafkaProducer

from contract.config import parse_config
from contract.records import record_key
from stream.__main__ import main
from stream.analysis.bars import BarsConfig
from stream.analysis.config import AnalysisConfig
from stream.analysis.replay import replay as work_out_again
from stream.analysis.span import HOUR_MS, Span
from stream.config import StreamConfig
from stream.ingest.writer import Writer
from stream.progress import Progress
from stream.query import Ingest, Supervisor
from stream.replay import stored_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from stack import Kafka
    from tests.stream.conftest import Database

NOW = 1_700_000_000_000
SECONDS = 400
BARS = """
select metric, width_s, starts_at, open, high, low, close, volume, quotes from bar join series using (series_id)
order by 1, 2, 3
"""
TRENDS = """
select metric, at, level, slope_per_s, slope_se, volatility, regime from trend join series using (series_id)
order by 1, 2
"""
LATE = """
insert into late_reading select series_id, date_trunc('hour', '{}'::timestamptz), 5, now(), gen_random_uuid()
from series where metric = 'level'
"""
ANOMALIES = "select metric, detector, started_at, ended_at, peak_score, evidence::text from anomaly order by 1, 2, 3"


@pytest.fixture
def market(
    kafka: Kafka,
    migrated: Database,
    payload_record: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A configuration, and in Kafka and in the database a node's readings in order, with a spike."""
    name = uuid.uuid4().hex[:8]
    kafka.create_topic(f"{name}.payloads")
    kafka.create_topic(f"{name}.deadletters")
    document = {
        "kafka": {"bootstrap_servers": [kafka.bootstrap_servers]},
        "topics": {"payloads": f"{name}.payloads", "dead_letters": f"{name}.deadletters"},
        "checkpoint_dir": str(tmp_path / "checkpoint"),
        "analysis": {"step_s": 2, "bars": {"widths_s": [10, 60], "late_after_s": 30}},
        "spark": {"jars_dir": "as the session has it"},
    }
    path = tmp_path / "stream.yaml"
    path.write_text(yaml.safe_dump(document))
    monkeypatch.setenv("HEADWATER_DSN", migrated.writer)
    rng = np.random.default_rng(4)
    price, level = 100 + rng.normal(size=SECONDS).cumsum(), rng.normal(size=SECONDS)
    level[300:320] += 60
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, acks="all")) as producer:
        for n in range(SECONDS):
            values = {"AB/price": float(price[n]), "AB/volume": 1000.0 + 3 * n, "level": float(level[n])}
            record = payload_record(values, sampled_at_ms=NOW + n * 1000, received_at_ms=NOW + n * 1000)
            producer.send(f"{name}.payloads", record.value, record_key("g", "n"), headers=list(record.headers))
        producer.flush(30)
    return path


def ingest(spark: SparkSession, path: Path, database: Database) -> None:
    config = parse_config(yaml.safe_load(path.read_text()), StreamConfig, "test")
    stop = threading.Event()
    with closing(Writer(database.writer, stop, Progress())) as writer:
        Supervisor(spark, Ingest(spark, config, writer), stop).run(once=True)


def replay(path: Path, *options: str) -> None:
    assert main(["replay", str(path), *options]) == 0


def text(n: int) -> str:
    return datetime.fromtimestamp(NOW / 1000 + n, UTC).isoformat()


def test_a_span_is_the_same_however_often_and_from_wherever_it_is_worked_out(
    market: Path, spark: SparkSession, migrated: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tables() -> list[list[Any]]:
        return [migrated.rows(statement) for statement in (BARS, TRENDS, ANOMALIES)]

    @contextmanager
    def session(_config: StreamConfig) -> Iterator[SparkSession]:
        yield spark

    monkeypatch.setattr("stream.replay._spark", session)
    ingest(spark, market, migrated)
    whole = ("--from", text(0), "--to", text(SECONDS))
    replay(market, *whole, "--dry-run")
    assert tables() == [[], [], []]
    replay(market, *whole)
    first = tables()
    assert all(first)
    assert {row[0] for row in first[2]} == {"level"}
    replay(market, *whole)
    assert tables() == first

    migrated.run("update bar set close = 0; update trend set level = 0; delete from anomaly")
    migrated.run(LATE.format(text(0)))
    replay(market, *whole)
    assert tables() == first
    assert migrated.one("select count(*) from late_reading") == 0

    migrated.run("truncate bar, trend, anomaly")
    replay(market, "--source", "kafka")
    by_kafka = tables()
    assert by_kafka[0] == first[0]
    # Its last steps are open: the log ends there.
    assert by_kafka[1] == [row for row in first[1] if row[1] <= max(each[1] for each in by_kafka[1])]
    assert len(by_kafka[1]) > 0.95 * len(first[1])
    assert by_kafka[2] == first[2]


def test_a_part_is_replaced_and_the_rest_stays(market: Path, spark: SparkSession, migrated: Database) -> None:
    ingest(spark, market, migrated)
    replay(market, "--from", text(0), "--to", text(SECONDS))
    migrated.run("update bar set close = 0; update trend set level = 0")
    replay(market, "--from", text(100), "--to", text(200), "--series", "g/n/d/AB/price")
    ends = f"extract(epoch from starts_at)::int + width_s - {NOW // 1000}"
    fresh = migrated.rows(f"select {ends} from bar where width_s = 10 and close <> 0")
    assert {end for (end,) in fresh} == {*range(110, 210, 10)}
    told = migrated.rows(f"select extract(epoch from at)::int - {NOW // 1000} from trend where level <> 0")
    assert {at for (at,) in told} == {*range(102, 202, 2)}
    migrated.run("truncate bar, trend")
    migrated.run(LATE.format(text(0)))
    replay(market, "--late")
    assert migrated.rows("select distinct metric from trend join series using (series_id)") == [("level",)]
    assert migrated.one("select count(*) from late_reading") == 0


def test_bars_whose_readings_are_gone_stay_and_a_late_volume_brings_its_price(
    market: Path, spark: SparkSession, migrated: Database
) -> None:
    ingest(spark, market, migrated)
    migrated.run(
        f"insert into bar select series_id, 86400, '{text(-9 * 86_400)}', 1, 1, 1, 1, 7, 1, true "
        "from series where metric = 'AB/price'"
    )
    replay(market, "--from", text(-30 * 86_400), "--to", text(SECONDS))
    first = migrated.rows(BARS)
    assert len(first) > SECONDS // 10
    assert first[-1][0:2] == ("AB/price", 86_400)
    assert first[-1][-2] == 7
    migrated.run("update bar set volume = null where volume <> 7")
    migrated.run(LATE.replace("'level'", "'AB/volume'").format(text(0)))
    replay(market, "--late")
    assert migrated.rows(BARS) == first
    assert migrated.one("select count(*) from late_reading") == 0


def test_an_open_bar_that_ends_after_the_span_and_had_its_quotes_before_it_stays(
    market: Path, spark: SparkSession, migrated: Database
) -> None:
    ingest(spark, market, migrated)
    settings = AnalysisConfig(step_s=2, bars=BarsConfig(widths_s=(10, 86_400)))
    stored, now_ms = stored_series(migrated.writer, "*", settings), NOW + 3 * HOUR_MS // 2
    work_out_again(settings, migrated.writer, stored, Span(NOW, NOW + HOUR_MS // 2, now_ms))
    first = migrated.rows(BARS)
    assert [row[1] for row in first].count(86_400) == 1
    work_out_again(settings, migrated.writer, stored, Span(NOW + HOUR_MS, now_ms, now_ms))
    assert migrated.rows(BARS) == first


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--from is missing"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "--to is not after --from"),
        (("--source", "kafka", "--late"), "not with --series or --late"),
    ],
)
def test_wrong_usage_is_told(
    market: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    assert main(["replay", str(market), *options]) == 2
    assert words in capsys.readouterr().err
