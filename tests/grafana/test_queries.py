"""Every query of every dashboard, as PostgreSQL gets it, on data of every kind."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from grafana import inventory
from grafana.boards import boards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from psycopg2.extensions import cursor

    Range = tuple[datetime, datetime]
    Choices = dict[str, Mapping[str, str | Sequence[str]]]

QUESTIONS = [question for board in boards() for question in inventory.questions(board)]
# Nothing is stored while the test runs: what is asked of the last minute has no answer but that.
OF_THIS_MINUTE = {
    "headwater-pipeline: Stored A",
    "headwater-pipeline: Latency, p99 A",
    "headwater-home: Stored A",
}
EMPTY = datetime(2020, 1, 1, tzinfo=UTC)
# PostgreSQL's types by their oids: those that Grafana has a field for.
_TIMES, _TEXTS = {1114, 1184, 1082}, {25, 1043}
_PLAIN = {*_TIMES, *_TEXTS, 16, 20, 21, 23, 700, 701, 1700}


@pytest.fixture(scope="module")
def choices(asking: cursor, filled: tuple[str, Any]) -> Choices:
    """What each dashboard shows when it is opened."""

    def fetch(statement: str) -> list[tuple[Any, ...]]:
        asking.execute(statement)
        rows = asking.fetchall()
        assert rows, f"no options: {statement}"
        assert all(row[0] for row in rows)
        return rows

    extent = filled[1]
    return {board.uid: inventory.choices(board, extent.since, extent.until, fetch) for board in boards()}


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_it_answers_with_rows_of_the_right_types(
    question: inventory.Question, asking: cursor, choices: Choices, shown: Range
) -> None:
    asking.execute(question.asked(*shown, choices[question.uid]))
    rows = asking.fetchall()
    columns = asking.description or ()
    names = [column.name for column in columns]
    assert rows
    assert str(question) in OF_THIS_MINUTE or any(value is not None for value in rows[0])
    assert len(set(names)) == len(names)
    assert {column.type_code for column in columns} <= _PLAIN, columns
    if question.shape == "time_series":
        _assert_series(names, [column.type_code for column in columns], rows)
    if question.ref == "annotation":
        assert {"time", "text"} <= set(names)


def _assert_series(names: list[str], types: list[int], rows: list[tuple[Any, ...]]) -> None:
    assert names[0] == "time"
    assert types[0] in _TIMES
    times = [row[0] for row in rows]
    assert all(isinstance(at, datetime) for at in times)
    assert times == sorted(times), "Grafana refuses what is not in order"
    texts = [name for name, code in zip(names, types, strict=True) if code in _TEXTS]
    assert texts in ([], ["metric"]), "a text names its series"
    # Three columns: then the name is the metric's alone.
    assert not texts or len(names) == 3
    assert len({(row[0], *(row[names.index(name)] for name in texts)) for row in rows}) == len(rows), "twice at a time"
    assert len(rows) <= 10_000


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_it_takes_an_empty_range_and_choices_of_nothing(
    question: inventory.Question, asking: cursor, choices: Choices
) -> None:
    nothing: dict[str, str | Sequence[str]] = {
        name: () if isinstance(value, tuple) else "" for name, value in choices[question.uid].items()
    }
    # What is given has always one of its options.
    given = {name: value for name, value in choices[question.uid].items() if name == "bar"}
    for values in (choices[question.uid], nothing | given):
        asking.execute(question.asked(EMPTY, EMPTY + timedelta(hours=6), values))
        asking.fetchall()


def test_a_node_that_tells_no_json_hides_no_answers(
    asking: cursor, query: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    for told in ("nonsense", "[1]", "", '{"a": "\\u0000"}'):
        asking.execute("select json_object_or_null(%s)", (told,))
        assert asking.fetchone() == (None,)
    assert query("select count(*) > 0 from command_answer where answer ->> 'done' = 'true'") == [(True,)]


def test_models_are_told_by_devices_and_by_what_runs_here(query: Callable[[str], list[tuple[Any, ...]]]) -> None:
    found = query("select distinct model, place, version, state from node_model order by 1, 2")
    assert found == [
        ("scene", "edge", "v2", "resting"),
        ("stock-minute", "cloud", "v1", None),
        ("tank-level", "cloud", "v1", None),
        ("tank-level", "edge", "v1", "ok"),
        ("weather-hour", "cloud", "v1", None),
    ]


def test_nodes_and_sources_are_shown_as_they_told(query: Callable[[str], list[tuple[Any, ...]]]) -> None:
    found = query("""
        select node_id, version, temperature_celsius between 40 and 70, clock_synchronised in (0, 1),
               disk_free_bytes < disk_bytes, spool_limit_bytes, spool_share = spool_bytes / 268435456
        from node_health order by 1
    """)
    assert found == [(f"edge-0{n}", "0.1.0", True, True, True, 2**28, True) for n in (1, 2, 3, 4)]
    found = query("select node_id, device_id, line_occupancy > 0, quota_left_day > 0 from source_health order by 1, 2")
    assert found == [
        ("edge-01", "line-a", True, None),
        ("edge-01", "weather", None, True),
        ("edge-02", "exchange", None, True),
        ("edge-02", "line-b", True, None),
        ("edge-04", "line-a", True, None),
        ("edge-04", "weather", None, True),
    ]


def test_wind_has_one_unit_whoever_tells_it(well: cursor) -> None:
    well.execute("""
        with told as (
          insert into series (group_id, node_id, device_id, metric, kind, datatype, unit)
          values ('demo', 'edge-01', 'owm', 'wind_speed', 'numeric', 10, 'm/s') returning series_id)
        insert into reading (series_id, sampled_at, value, quality) select series_id, now(), 10, 192 from told
    """)
    (weather,) = [board for board in boards() if board.uid == "headwater-weather"]
    asked = [question for question in inventory.questions(weather) if question.panel == "Wind"]
    assert len(asked) == 2
    now = datetime.now(UTC)
    for question in asked:
        span = (now - timedelta(minutes=5), now + timedelta(minutes=1))
        well.execute(question.asked(*span, {"place": "demo/edge-01/owm"}))
        assert [row[2] for row in well.fetchall()] == [36.0]


def test_whoever_looks_only_looks(query: Callable[[str], list[tuple[Any, ...]]]) -> None:
    assert query("insert into node_position values ('g', 'n', '', 0, 0) returning 1") == [("refused",)]
    assert query("show jit") == [("off",)]


def test_all_of_a_dashboard_is_there_at_once(asking: cursor, choices: Choices, shown: Range) -> None:
    for board in boards():
        began = time.process_time()
        for question in inventory.questions(board):
            asking.execute(question.asked(*shown, choices[board.uid]))
            asking.fetchall()
        assert time.process_time() - began < 1.0, board.uid
