"""What can be read of a dashboard on a screen of 1366 pixels, and on a phone of 360."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from grafana import inventory, uids
from grafana.boards import boards
from grafana.macros import Shown, expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from psycopg2.extensions import cursor

BOARDS = {board.uid: board for board in boards()}
PANELS = {(uid, panel["title"]): panel for uid, board in BOARDS.items() for panel in inventory.panels(board)}
# As test_boards.py has it, less the frame of a panel; on a phone less the page's as well.
COLUMN, FRAME, PHONE = 1310 / 24, 16, 328
# Of a letter by its size; what Grafana gives a line of a table, and a column that nothing is said of.
LETTER, LINE, UNTOLD = 0.52, 22, 150
# With its unit.
LONGEST_VALUE = len("1,234 m³/h")


def of_kind(kind: str) -> list[Any]:
    return [
        pytest.param(panel, id=f"{uid}: {title}") for (uid, title), panel in PANELS.items() if panel["type"] == kind
    ]


def properties(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What overrides say of the field of this name."""
    told = [each for each in panel["fieldConfig"]["overrides"] if each["matcher"]["options"] == name]
    return {each["id"]: each["value"] for override in told for each in override["properties"]}


def columns_of(panel: Mapping[str, Any]) -> list[str]:
    (target,) = panel["targets"]
    return list(dict.fromkeys(re.findall(r' as "([^"]+)"', target["rawSql"])))


@pytest.mark.parametrize("panel", of_kind("table"))
def test_all_columns_of_a_table_are_seen_at_once(panel: dict[str, Any]) -> None:
    least = panel["fieldConfig"]["defaults"]["custom"].get("minWidth", UNTOLD)
    taken = [properties(panel, name).get("custom.width", least) for name in columns_of(panel)]
    assert len(taken) >= 3
    assert sum(taken) <= panel["gridPos"]["w"] * COLUMN - FRAME


def test_the_fleets_table_has_what_there_is_to_know_of_a_node() -> None:
    told = columns_of(PANELS[uids.FLEET, "Nodes"])
    assert {"State", "Seen", "Version", "Models", "Spool", "Clock", "Processor", "Lost", "Undelivered"} <= set(told)


def spanning(panel: Mapping[str, Any]) -> Any:
    """For how long, in milliseconds, a null is none; True: always."""
    return panel.get("fieldConfig", {}).get("defaults", {}).get("custom", {}).get("spanNulls")


def boxes() -> Iterator[tuple[dict[str, Any], dict[str, float]]]:
    for panel in of_kind("canvas"):
        for each in panel.values[0]["options"]["root"]["elements"]:
            yield each, each["placement"]


def test_texts_of_a_picture_fit_their_boxes_on_a_phone() -> None:
    assert list(boxes())
    for each, place in boxes():
        text, size = each["config"]["text"], each["config"]["size"]
        letters = LONGEST_VALUE if text["mode"] == "field" else max(map(len, text["fixed"].split()))
        width = PHONE * (100 - place["left"] - place["right"]) / 100
        assert letters * size * LETTER <= width, each["name"]


def test_nothing_in_a_picture_lies_on_something_else_and_pipes_lead_somewhere() -> None:
    places = {each["name"]: place for each, place in boxes()}
    for (one, a), (other, b) in itertools.combinations(places.items(), 2):
        apart = (
            a["left"] + b["right"] >= 100
            or b["left"] + a["right"] >= 100
            or a["top"] + b["bottom"] >= 100
            or b["top"] + a["bottom"] >= 100
        )
        assert apart, f"{one} lies on {other}"
    assert all(min(place.values()) >= 0 for place in places.values())
    pipes = {pipe["targetName"] for each, _ in boxes() for pipe in each["connections"]}
    assert pipes == {"Raw water", "Pump 1", "Filter and dosing", "Clean water", "Pump 2", "Town"}


@pytest.mark.parametrize("panel", of_kind("state-timeline"))
def test_states_have_a_legend_and_do_not_end_where_others_begin(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    # Grafana makes one table of all series, with nulls where another one has a row, and ends a state at a null.
    assert spanning(panel) is True or spanning(panel) >= 60_000
    # In another mode than a fixed colour it draws none, or takes the words from the thresholds.
    assert defaults["color"]["mode"] == "fixed"
    assert all(word["color"] and word["text"] for word in defaults["mappings"][0]["options"].values())


HOLDING = [
    question for board in BOARDS.values() for question in inventory.questions(board) if question.panel == "Connections"
]
CHOSEN = {"group": "demo", "node": "edge-02"}


def told(question: inventory.Question, at: cursor, shown: tuple[datetime, datetime]) -> list[tuple[Any, ...]]:
    at.execute(expand(question.sql, Shown(*shown, 60.0, CHOSEN)))
    return at.fetchall()


@pytest.mark.parametrize("question", HOLDING, ids=str)
def test_what_holds_is_told_at_both_ends_of_the_time(
    question: inventory.Question, asking: cursor, shown: tuple[datetime, datetime]
) -> None:
    """A state of which nothing is told at the end, where others go on, would end at its last row."""
    assert spanning(PANELS[question.uid, question.panel]) is True
    rows = told(question, asking, shown)
    series = {name: [at for at, of, _ in rows if of == name] for _, name, _ in rows}
    assert len(series) >= 3
    assert {times[-1] for times in series.values()} == {max(at for at, _, _ in rows)}
    assert len({name for name, times in series.items() if len(times) > 2}) >= 1, "nothing came or went"
    half_way = shown[0] + timedelta(minutes=30)
    at_first = {name for at, name, _ in told(question, asking, (half_way, shown[1])) if at == half_way}
    assert at_first == set(series)


@pytest.mark.parametrize("question", HOLDING, ids=str)
def test_what_changes_at_the_very_beginning_is_told_once(
    question: inventory.Question, well: cursor, shown: tuple[datetime, datetime]
) -> None:
    from_at = shown[0].replace(minute=0, second=0, microsecond=0)
    well.execute(
        "insert into node_status (group_id, node_id, device_id, at, status) values "
        "('demo', 'edge-02', '', %(at)s - interval '1 hour', 'online'), ('demo', 'edge-02', '', %(at)s, 'offline')",
        {"at": from_at},
    )
    rows = told(question, well, (from_at, shown[1]))
    assert len({(at, name) for at, name, _ in rows}) == len(rows)
    assert (from_at, 0) in {(at, value) for at, _, value in rows}


def test_where_the_wind_comes_from_is_seen_however_close_its_points_are() -> None:
    wind = PANELS[uids.WEATHER, "Wind"]
    assert properties(wind, "/direction/")["custom.drawStyle"] == "points"


def test_a_line_without_width_is_the_edge_of_a_band() -> None:
    """Points stand in for it only where there is room for them: of many there is nothing to see."""
    for (_, title), panel in PANELS.items():
        names = [each["matcher"]["options"] for each in panel.get("fieldConfig", {}).get("overrides", ())]
        told = {name: properties(panel, name) for name in names}
        below = {each.get("custom.fillBelowTo") for each in told.values()}
        for name, each in told.items():
            if each.get("custom.lineWidth") == 0:
                assert "custom.fillBelowTo" in each or name in below, f"{title}: {name}"


def test_pictures_of_cameras_are_large_enough_to_see_something(
    asking: cursor, shown: tuple[datetime, datetime]
) -> None:
    panel = PANELS[uids.CAMERAS, "What was seen"]
    (name,) = [name for name in columns_of(panel) if properties(panel, name).get("custom.wrapText")]
    assert properties(panel, name)["custom.cellOptions"]["wrapText"] is True
    (question,) = [each for each in inventory.questions(BOARDS[uids.CAMERAS]) if each.panel == panel["title"]]
    asking.execute(expand(question.sql, Shown(*shown, 60.0, {"camera": ("demo/edge-03/gate",)})))
    place = [column.name for column in asking.description or ()].index(name)
    for row in asking.fetchall():
        # A row is as high as the lines of its text, which are counted where it is longer than its column.
        assert len(row[place].splitlines()) * LINE >= 100
        assert len(row[place]) * 14 * LETTER > properties(panel, name)["custom.width"]
