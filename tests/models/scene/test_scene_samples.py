"""Samples of a camera: out of a directory, out of a database, and what their times say of its hours."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import psycopg2
import pytest
from psycopg2.extras import execute_values

from contract.scene import REQUEST, SAMPLE, event_of, span_of
from models.errors import DataError
from models.scene.database import from_database, requests
from models.scene.samples import Samples, from_directory

if TYPE_CHECKING:
    from pathlib import Path

MIDNIGHT_MS = 1_795_305_600_000
CAMERA = "demo/edge-1/gate"


def jpeg(level: int, side: int = 96) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((side, side), level, np.uint8))[1])


def at(*hours: float) -> Samples:
    times = np.array([MIDNIGHT_MS + round(3_600_000 * hour) for hour in hours], np.int64)
    return Samples(CAMERA, "here", times, np.zeros((len(hours), 96, 96), np.uint8))


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ((22.1, 23, 28.9), "22:00-05:00"),
        ((2.0, 4.3, 7.99), "02:00-08:00"),
        ((12.0,), "12:00-12:15"),
        ((20, 23.8), "20:00-24:00"),
        ((22, 22 + 23, 22 + 48.5), "21:00-22:45"),
        (tuple(range(24)), "00:00-24:00"),
    ],
)
def test_quiet_hours_are_those_of_the_samples(hours: tuple[float, ...], told: str) -> None:
    samples = at(*hours)
    assert samples.quiet_hours == told
    begin_s, span_s = span_of(told)
    assert all((each // 1000 - begin_s) % 86_400 < span_s for each in samples.at_ms.tolist())


def test_a_directory_of_jpegs_is_read_in_order_of_time(tmp_path: Path) -> None:
    for n, (level, side) in enumerate([(10, 96), (30, 96), (20, 200)]):
        (tmp_path / f"gate-{MIDNIGHT_MS + 1000 * (n * 2 % 3)}.jpg").write_bytes(jpeg(level, side))
    (tmp_path / "notes.txt").write_text("none of it")
    (tmp_path / "cut off.jpg").write_bytes(jpeg(99)[:100])
    (tmp_path / "empty.jpeg").write_bytes(b"")
    samples = from_directory(tmp_path, CAMERA)
    assert samples.at_ms.tolist() == [MIDNIGHT_MS, MIDNIGHT_MS + 1000, MIDNIGHT_MS + 2000]
    assert samples.pictures.mean(axis=(1, 2)).tolist() == [10, 20, 30]


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_directory_without_pictures_is_told(place: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read: No such|has no picture"):
        from_directory(tmp_path / place, CAMERA)


@pytest.fixture
def dsn(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    environment = {**os.environ, "HEADWATER_DSN": database}
    subprocess.run([sys.executable, "-m", "db", "migrate"], env=environment, check=True, timeout=60)
    monkeypatch.setenv("HEADWATER_DSN", database)
    return database


def put(dsn: str, device: str, session_ms: int, count: int, *, asks: bool = True, left_out: int = 0) -> None:
    """Samples as the stream writes them, 100 to a clip, of which the second has got lost."""
    rows = []
    for n in range(count):
        taken = dt.datetime.fromtimestamp(session_ms / 1000 + 60 * n, tz=dt.UTC)
        kind = REQUEST if asks and n == count - 1 else SAMPLE
        event = event_of(session_ms, n // 100)
        rows.append(("demo", "edge-1", device, event, n % 100 + 1, 100, kind, taken, taken, jpeg(n % 200)))
    with psycopg2.connect(dsn) as opened, opened.cursor() as cursor:
        execute_values(
            cursor, "insert into camera_event values %s", [row for n, row in enumerate(rows) if n != left_out]
        )
    opened.close()


def test_a_camera_that_asks_is_found_with_its_own_samples(dsn: str) -> None:
    old_ms, new_ms = MIDNIGHT_MS, MIDNIGHT_MS + 10 * 86_400_000
    put(dsn, "gate", old_ms, 30)
    put(dsn, "gate", new_ms, 130)
    put(dsn, "yard", old_ms, 40, asks=False)
    (asked,) = requests()
    assert (asked.camera, asked.session_ms, asked.samples) == (CAMERA, new_ms, 129)
    assert asked.asked_at == dt.datetime.fromtimestamp(new_ms / 1000 + 129 * 60, tz=dt.UTC)

    samples = from_database(CAMERA)
    assert len(samples) == 129
    assert samples.at_ms[:2].tolist() == [new_ms + 60_000, new_ms + 120_000]
    np.testing.assert_allclose(samples.pictures[:, 0, 0], np.arange(1, 130), atol=1)
    with pytest.raises(DataError, match="demo/edge-1/yard: has not asked for a model"):
        from_database("demo/edge-1/yard")
    assert requests({CAMERA: asked.asked_at}) == []
    assert requests({CAMERA: asked.asked_at - dt.timedelta(seconds=1)}) == [asked]


def test_incidents_clips_are_no_samples(dsn: str) -> None:
    row: tuple[Any, ...] = ("demo", "edge-1", "gate", "1795305600000-ab12cd34-1", 1, 6, "motion")
    now = dt.datetime.fromtimestamp(MIDNIGHT_MS / 1000, tz=dt.UTC)
    with psycopg2.connect(dsn) as opened, opened.cursor() as cursor:
        execute_values(cursor, "insert into camera_event values %s", [(*row, now, now, jpeg(5))])
    opened.close()
    assert requests() == []
