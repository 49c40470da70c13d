"""A database with the readings of a small plant, and the tiny models of the other tests of models bound to it."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from psycopg2.extras import execute_values

from stream.forecasting.config import Binding, ForecastingConfig
from stream.forecasting.models import Models
from stream.forecasting.progress import ForecastingProgress
from stream.forecasting.rounds import Rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from psycopg2.extensions import connection
    from pyspark.sql import SparkSession

WATCHED = ("g", "n", "plant")


@dataclass
class Plant:
    """Series and their readings; times are seconds from `begin_s`, a whole minute some minutes ago."""

    dsn: str
    rows: Callable[[str], list[tuple[Any, ...]]]
    begin_s: int = field(default_factory=lambda: int(time.time()) // 60 * 60 - 300)

    def series(self, metric: str, device: tuple[str, str, str] = WATCHED, kind: str = "numeric") -> int:
        """Its number; made where it is new."""
        with closing(psycopg2.connect(self.dsn)) as opened, opened.cursor() as cursor:
            key = (*device, metric, kind)
            cursor.execute(
                "insert into series (group_id, node_id, device_id, metric, kind, datatype) "
                "select %s, %s, %s, %s, %s, 10 "
                "where not exists (select from series where (group_id, node_id, device_id, metric, kind) = %s)",
                (*key, key),
            )
            cursor.execute(
                "select series_id from series where (group_id, node_id, device_id, metric, kind) = %s", (key,)
            )
            ((number,),) = cursor.fetchall()
            opened.commit()
            return int(number)

    def store(
        self,
        metric: str,
        values: Mapping[float, float | str | None],
        device: tuple[str, str, str] = WATCHED,
    ) -> None:
        """Readings by the second; None is a bad one."""
        is_text = any(isinstance(each, str) for each in values.values())
        number = self.series(metric, device, "text" if is_text else "numeric")
        rows = [(number, self.begin_s + second, value, 0 if value is None else 192) for second, value in values.items()]
        table = "reading_text" if is_text else "reading"
        with closing(psycopg2.connect(self.dsn)) as opened, opened.cursor() as cursor:
            execute_values(
                cursor,
                f"insert into {table} (series_id, sampled_at, value, quality) values %s on conflict do nothing",
                rows,
                template="(%s, to_timestamp(%s), %s, %s)",
            )
            opened.commit()

    def second(self, column: str) -> str:
        """SQL of a time in seconds from the begin."""
        return f"(extract(epoch from {column}) - {self.begin_s})::float8"


@pytest.fixture
def plant(migrated: Any) -> Plant:
    return Plant(migrated.writer, migrated.rows)


@pytest.fixture
def rounds(
    spark: SparkSession, plant: Plant, tmp_path: Path
) -> Iterator[Callable[..., Callable[[], ForecastingProgress]]]:
    """Makes what does a round of forecasting, as often as it is called; each is a run of its own."""
    opened_all: list[connection] = []

    def make(bindings: Sequence[Mapping[str, Any]], **more: Any) -> Callable[[], ForecastingProgress]:
        settings = {"grace_s": 2, "watch_s": 0.001, "rescan_s": 0.001, "models_dir": tmp_path / "models"} | more
        config = ForecastingConfig(bindings=tuple(Binding(**each) for each in bindings), **settings)
        progress = ForecastingProgress()
        opened = psycopg2.connect(plant.dsn)
        opened.cursor().execute("set timezone = 'UTC'")
        opened_all.append(opened)
        models, once = Models(spark, config, progress), Rounds(spark, config, opened, progress, threading.Event())

        def round_() -> ForecastingProgress:
            once.round(models)
            return progress

        return round_

    yield make
    for opened in opened_all:
        opened.close()


@pytest.fixture
def package(tmp_path: Path, write_package: Callable[..., Path]) -> Callable[..., Path]:
    """Puts one of the tiny models where the rounds look."""

    def put(kind: str, name: str = "tank", **parts: Any) -> Path:
        return write_package(tmp_path / "models" / name, kind, name=name, **parts)

    return put


@pytest.fixture(autouse=True)
def _say_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="stream")
