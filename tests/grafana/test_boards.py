"""The dashboards as they stand in their JSON: whole, readable, and the same as their Python."""

from __future__ import annotations

import configparser
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from grafana import colours, files, inventory, uids
from grafana.__main__ import main
from grafana.board import Board
from grafana.boards import boards
from grafana.errors import LayoutError
from grafana.layout import Row, placed
from grafana.macros import variables
from grafana.panels import About, number
from grafana.query import SOURCE_TYPE, SOURCE_UID, table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BOARDS = {board.uid: board for board in boards()}
PANELS = [
    pytest.param(panel, id=f"{uid}: {panel['title']}")
    for uid, board in BOARDS.items()
    for panel in inventory.panels(board)
]
# They show no data.
WITHOUT_DATA = {"dashlist", "text"}
ASKING = [each for each in PANELS if each.values[0]["type"] not in WITHOUT_DATA]  # type: ignore[index]  # of a param


def test_what_is_committed_is_what_the_python_makes(tmp_path: Path) -> None:
    assert list(files.differing()) == []
    for board in BOARDS.values():
        assert files.rendered(board) == files.rendered(board), "not the same twice"
    assert {path.name for path in files.write(tmp_path)} == {files.file_name(board) for board in BOARDS.values()}
    assert files.write(tmp_path) == []


def test_check_names_the_file_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path)
    (tmp_path / "fleet.json").write_text("{}")
    (tmp_path / "node.json").unlink()
    (tmp_path / "gone.json").write_text("{}")
    assert list(files.differing(tmp_path)) == [
        "fleet.json differs from its Python",
        "node.json is missing",
        "gone.json is of no dashboard that there is",
    ]
    monkeypatch.setattr(files, "differing", lambda: iter(["fleet.json differs from its Python"]))
    assert main(["check"]) == 1
    assert "fleet.json differs from its Python" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["check"]) == 0
    files.write(tmp_path)
    assert not (tmp_path / "gone.json").exists()


def test_uids_are_known_and_unique() -> None:
    known = [value for name, value in vars(uids).items() if name.isupper()]
    assert sorted(BOARDS) == sorted(known)
    assert len(set(known)) == len(known) == len(boards())
    assert len({board.title for board in boards()}) == len(known)


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_says_what_it_answers(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].rstrip(".)").count(" ") >= 2, "the question that it answers"
    assert panel["description"].endswith((".", "?", ".)"))


@pytest.mark.parametrize("panel", ASKING)
def test_every_panel_has_source_unit_words_for_nothing_and_a_query(panel: dict[str, Any]) -> None:
    source = {"type": SOURCE_TYPE, "uid": SOURCE_UID}
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["datasource"] == source
    assert panel["targets"]
    assert all(target["datasource"] == source for target in panel["targets"])
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    assert defaults["unit"]
    assert defaults["noValue"]


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_fit_and_do_not_overlap(uid: str) -> None:
    document = inventory.document(BOARDS[uid])
    places = [(panel["title"], panel["gridPos"]) for panel in document["panels"]]
    taken: dict[tuple[int, int], str] = {}
    for title, place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24, title
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{title} lies on {taken.get(cell)}"
            taken[cell] = title
    assert len({panel["id"] for panel in document["panels"]}) == len(places)


@pytest.mark.parametrize("panel", PANELS)
def test_panels_are_large_enough_to_read(panel: dict[str, Any]) -> None:
    # 1310 pixels between the menu and the edge of a screen of 1366; 38 for a row, 8 of them between panels.
    width, height = panel["gridPos"]["w"] * 1310 / 24, panel["gridPos"]["h"] * 38 - 8
    if panel["type"] == "stat":
        assert (width >= 200, height >= 140) == (True, True)
    else:
        assert (width >= 420, height >= 220) == (True, True)
    # On a phone it is as wide as the screen, and should not be more than a screen high.
    assert height <= 600


def test_a_row_that_is_too_wide_or_a_panel_too_small_is_told() -> None:
    def stat() -> Any:
        return number(About("A", "B?", "none", "C"), table("select 1"))

    with pytest.raises(LayoutError, match="28 columns wide"):
        list(placed([Row(4, [stat(), stat()], widths=[14, 14])]))
    with pytest.raises(LayoutError, match="A: 2 by 4 is too small"):
        list(placed([Row(4, [stat()], widths=[2])]))


def _strings(document: Any) -> Iterator[str]:
    match document:
        case dict():
            for each in document.values():
                yield from _strings(each)
        case list():
            for each in document:
                yield from _strings(each)
        case str():
            yield document


@pytest.mark.parametrize("uid", BOARDS)
def test_links_point_at_dashboards_that_there_are_and_variables_they_have(uid: str) -> None:
    links = [text for text in _strings(inventory.document(BOARDS[uid])) if text.startswith("/d/")]
    for link in links:
        found = re.match(r"/d/([\w-]+)\?", link)
        assert found, link
        target = BOARDS[found[1]]
        names = {variable.name for variable in target.variables}
        assert set(re.findall(r"var-(\w+)=", link)) <= names
        assert "${__url_time_range}" in link


def test_home_leads_to_others_and_fleet_to_the_node() -> None:
    def leads(uid: str) -> set[str]:
        return {text.split("?")[0] for text in _strings(inventory.document(BOARDS[uid])) if text.startswith("/d/")}

    assert {f"/d/{uid}" for uid in (uids.FLEET, uids.NODE, uids.PLANT, uids.MARKET, uids.PIPELINE)} <= leads(uids.HOME)
    assert f"/d/{uids.NODE}" in leads(uids.FLEET)


@pytest.mark.parametrize("uid", BOARDS)
def test_queries_name_variables_of_their_dashboard_alone(uid: str) -> None:
    board = BOARDS[uid]
    names = [variable.name for variable in board.variables]
    used = set().union(*(variables(question.sql) for question in inventory.questions(board)))
    for place, variable in enumerate(inventory.document(board)["templating"].get("list", ())):
        wanted = variables(variable["query"]) if variable["type"] == "query" else set()
        assert wanted <= set(names[:place]), "a variable sees those before it alone"
        used |= wanted
    assert used == set(names)


@pytest.mark.parametrize("uid", BOARDS)
def test_dashboards_cannot_be_changed_and_are_found_by_their_tag(uid: str) -> None:
    document = inventory.document(BOARDS[uid])
    assert document["editable"] is False
    assert document["tags"] == ["headwater"]
    assert document["refresh"] in document["timepicker"]["refresh_intervals"]
    assert document["description"].endswith("?")
    assert [link["tags"] for link in document["links"]] == [["headwater"]]
    assert "placement" not in document["links"][0]


@pytest.mark.parametrize("question", [q for board in boards() for q in inventory.questions(board)], ids=str)
def test_series_over_time_go_by_the_interval(question: inventory.Question) -> None:
    if question.shape == "time_series":
        assert "$__interval" in question.sql, "an answer of as many points as there are readings"
        assert re.search(r"order by (1|time)$", question.sql)
    elif question.ref != "annotation":
        one_row = r"^select (pg_|\w+ from node_health|missing::float8|online::int|extract)|(count|sum|max|avg)\("
        assert re.search(rf"limit \d+$|{one_row}", question.sql)


def test_what_means_the_same_has_the_same_colour() -> None:
    named = {value for name, value in vars(colours).items() if name.isupper()} | {"transparent", "text"}
    for board in BOARDS.values():
        for text in re.findall(r'"(?:fixedColor|color)": "([^"]+)"', files.rendered(board)):
            assert text in named


def test_provisioning_names_what_there_is() -> None:
    provisioning = ROOT / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "headwater.yaml").read_text())["datasources"]
    assert (source["uid"], source["type"]) == (SOURCE_UID, SOURCE_TYPE)
    assert source["jsonData"]["timescaledb"] is True
    assert source["secureJsonData"]["password"] == "$__env{HEADWATER_DB_PASSWORD}"
    assert not source["editable"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "headwater.yaml").read_text())["providers"]
    assert provider["allowUiUpdates"] is False
    assert provider["folderUid"] == "headwater"
    assert provider["type"] == "file"


def test_grafana_fetches_and_tells_nothing_by_itself() -> None:
    told = configparser.ConfigParser(interpolation=None)
    told.read(ROOT / "grafana" / "grafana.ini")
    analytics = told["analytics"]
    assert not any(analytics.getboolean(key) for key in analytics)
    assert told["plugins"].getboolean("preinstall_disabled")
    assert not told["plugins"].getboolean("plugin_admin_enabled")
    assert not told["snapshots"].getboolean("external_enabled")


def test_the_map_lies_on_tiles_that_need_no_key_and_can_be_others() -> None:
    told = configparser.ConfigParser(interpolation=None)
    told.read(ROOT / "grafana" / "grafana.ini")
    layer = json.loads(told["geomap"]["default_baselayer_config"].strip("`"))
    assert layer["type"] == "osm-standard"
    (panel,) = [panel for board in BOARDS.values() for panel in inventory.panels(board) if panel["type"] == "geomap"]
    assert panel["options"]["basemap"]["type"] == "default", "what the setting says"
    for text in ("docs/dashboards.md", "docker-compose.yml"):
        assert "GF_GEOMAP_DEFAULT_BASELAYER_CONFIG" in (ROOT / text).read_text()


def test_a_board_is_made_anew_each_time() -> None:
    assert isinstance(boards()[0], Board)
    assert boards()[0] is not boards()[0]


def test_the_docs_list_every_panel_and_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out.rstrip()
    assert (ROOT / "docs" / "dashboards.md").read_text().rstrip().endswith(listed), "run `python -m grafana list`"


def test_every_key_of_the_environment_stands_in_the_docs() -> None:
    docs = (ROOT / "docs" / "dashboards.md").read_text()
    written = [*(ROOT / "grafana").rglob("*.yaml"), ROOT / "grafana" / "grafana.ini"]
    asked = {key for path in written for key in re.findall(r"\$__env\{(\w+)\}", path.read_text())}
    assert len(asked) >= 7
    assert {key for key in asked if key not in docs} == set()
