"""Incidents of devices that went away while they lasted."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
import pytest

from stream.analysis.gone import Gone, end_silent
from stream.progress import Progress

if TYPE_CHECKING:
    from tests.stream.conftest import Database

DAY_S = 86_400.0
FOUND = """
select device_id, detector, round(extract(epoch from now() - ended_at) / 3600)::int, end_reason
  from anomaly order by 1, 2
"""
LASTING = """
insert into anomaly (group_id, node_id, device_id, metric, detector, place, started_at, peak_at, peak_score, threshold)
select 'g', 'n', device, metric, detector, place, now() - make_interval(hours => started),
       now() - make_interval(hours => started), 9, 5
  from (values ('away', 'level', 'robust', 'cloud', 60), ('away', '', 'tank', 'edge', 50),
               ('here', 'level', 'robust', 'cloud', 60), ('new', 'level', 'robust', 'cloud', 2),
               ('never', 'level', 'robust', 'cloud', 40)) as lasting (device, metric, detector, place, started)
"""
# Of hours ago; of a device that is here another series than the incident's has told something.
READINGS = """
with told as (
  insert into series (group_id, node_id, device_id, metric, kind, datatype)
  select 'g', 'n', device, metric, 'numeric', 10
    from (values ('away', 'level'), ('away', 'flow'), ('here', 'flow'), ('new', 'level')) as told (device, metric)
  returning series_id, device_id, metric)
insert into reading (series_id, sampled_at, value, quality)
select series_id, now() - make_interval(hours => ago), 1, 192
  from told join (values ('away', 'level', 45), ('away', 'level', 70), ('away', 'flow', 30), ('here', 'flow', 1),
                         ('new', 'level', 2)) as at (device_id, metric, ago) using (device_id, metric)
"""


@pytest.fixture
def plant(migrated: Database) -> Database:
    migrated.run(READINGS)
    migrated.run(LASTING)
    return migrated


def test_they_end_as_silent_with_what_the_device_told_last(plant: Database) -> None:
    assert end_silent(plant.writer, DAY_S) == {"g/n/away", "g/n/never"}
    assert plant.rows(FOUND) == [
        ("away", "robust", 30, "silent"),
        ("away", "tank", 30, "silent"),
        ("here", "robust", None, None),
        ("never", "robust", 40, "silent"),
        ("new", "robust", None, None),
    ]
    assert end_silent(plant.writer, DAY_S) == set()


def test_what_waits_in_kafka_may_tell_more_and_is_waited_for(plant: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="stream")
    gone, progress = Gone(plant.writer, DAY_S), Progress()
    for lag, database in ((None, "ok"), (7, "ok"), (0, "away")):
        progress.lag, progress.database = lag, database  # type: ignore[assignment]  # one of its words
        gone.look(progress)
    assert {row[3] for row in plant.rows(FOUND)} == {None}
    progress.lag, progress.database = 0, "ok"
    gone.look(progress)
    gone.look(progress)
    assert caplog.messages == ["incidents ended as silent: nothing came for 86400 s of g/n/away, g/n/never"]


def test_one_that_still_lasts_has_no_reason_to_have_ended(plant: Database) -> None:
    with closing(psycopg2.connect(plant.writer)) as opened, opened.cursor() as cursor:
        with pytest.raises(psycopg2.errors.CheckViolation):
            cursor.execute("update anomaly set end_reason = 'silent'")
        opened.rollback()
