"""The stream's configuration."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: TC003 - pydantic reads it from the annotations
from typing import Annotated

import psycopg2
from psycopg2.extensions import parse_dsn
from pydantic import Field

from contract.config import Config, ConfigError
from contract.records import DEAD_LETTER_TOPIC, PAYLOAD_TOPIC
from stream.analysis.config import AnalysisConfig
from stream.forecasting.config import ForecastingConfig  # noqa: TC001 - pydantic reads it from the annotations
from stream.ingest.decode import Limits

_DSN_VARIABLE = "HEADWATER_DSN"


class TopicsConfig(Config):
    """The Kafka topics."""

    payloads: str = Field(PAYLOAD_TOPIC, min_length=1, description="topic of the payloads")
    dead_letters: str = Field(DEAD_LETTER_TOPIC, min_length=1, description="topic of what the bridge set aside")


class KafkaConfig(Config):
    """Where the bridge's records are."""

    bootstrap_servers: tuple[Annotated[str, Field(pattern=r"^[^\s,]+:[0-9]{1,5}$")], ...] = Field(
        min_length=1, description="brokers to ask first, each host:port"
    )
    max_offsets_per_trigger: int = Field(
        20_000, ge=1, description="most records in one micro-batch; a backlog is taken in pieces of this size"
    )
    fail_on_data_loss: bool = Field(
        default=True,
        description="stop when Kafka no longer has records that were not read yet; false goes on without them",
    )
    options: dict[str, str] = Field(
        default_factory=dict, description="more settings of Kafka's clients, e.g. security.protocol: SSL"
    )


class DatabaseConfig(Config):
    """Where the rows go; without a file, the environment variable HEADWATER_DSN says it."""

    dsn_file: Path | None = Field(None, description="a file that holds the connection string, readable by us only")

    def dsn(self) -> str:
        """The connection string; raises ConfigError when there is none."""
        if self.dsn_file is None:
            dsn = os.environ.get(_DSN_VARIABLE, "")
            where = f"the environment variable {_DSN_VARIABLE}"
        else:
            where = f"database.dsn_file {self.dsn_file}"
            try:
                dsn = self.dsn_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                raise ConfigError(f"{where}: cannot be read: {getattr(exc, 'strerror', exc)}") from exc
        if not dsn:
            raise ConfigError(f"{where} is empty: name the database in it, as role headwater_writer")
        try:
            parse_dsn(dsn)
        except psycopg2.ProgrammingError:
            # libpq's own words repeat what stands there, which may be a secret of another kind.
            raise ConfigError(
                f"{where} holds no connection string of PostgreSQL (host=... or postgresql://...)"
            ) from None
        return dsn


class LimitsConfig(Config):
    """What is outside these limits is set aside; times are counted from when the bridge had a reading."""

    max_age_days: float = Field(366, gt=0, description="days")
    max_future_s: float = Field(3600, ge=0, description="seconds; how far a device's clock may be ahead")
    max_series_per_node: int = Field(
        20_000, ge=1, description="series; readings of more metrics of a node are set aside, and an alarm is raised"
    )

    def limits(self) -> Limits:
        """The limits in the decoder's units."""
        return Limits(round(self.max_age_days * 86_400_000), round(self.max_future_s * 1000))


class SparkConfig(Config):
    """The engine."""

    master: str = Field(
        "local[4]",
        description="where to run: local[N], spark://host:port, k8s://..., yarn; N of twice the cores, so that no "
        "reading waits for a task of the analysis to end",
    )
    jars_dir: Path = Field(description="directory with the Kafka connector's jars")
    driver_memory: str = Field("1g", pattern=r"^[1-9][0-9]*[mg]$", description="heap of the driver's JVM")
    log_level: str = Field(
        "ERROR", pattern="^(ALL|DEBUG|ERROR|FATAL|INFO|OFF|TRACE|WARN)$", description="of Spark itself"
    )
    settings: dict[str, str] = Field(default_factory=dict, description="more of Spark's settings, which overrule ours")


class HealthConfig(Config):
    """HTTP on loopback: GET /healthz."""

    port: int = Field(ge=0, le=65535, description="TCP port; 0: any free one, named in the log")


class StreamConfig(Config):
    """One streaming job."""

    kafka: KafkaConfig
    topics: TopicsConfig = TopicsConfig()
    database: DatabaseConfig = DatabaseConfig()
    checkpoint_dir: str = Field(
        min_length=1, description="directory or URI for Spark's own progress; losing it costs reading Kafka again"
    )
    trigger_interval_s: float = Field(1.0, ge=0, description="seconds from the start of one micro-batch to the next")
    stop_timeout_s: float = Field(30.0, gt=0, description="seconds that a stop waits for the batch in hand")
    health: HealthConfig | None = Field(None, description="health over HTTP; none: no port is opened")
    limits: LimitsConfig = LimitsConfig()
    analysis: AnalysisConfig | None = Field(
        AnalysisConfig(), description="bars, trends and anomalies of the readings; null: none"
    )
    forecasting: ForecastingConfig | None = Field(None, description="models that are run in the job; none: none is")
    spark: SparkConfig
