"""The alerts as they stand in their files: whole, the same as their Python, each with its runbook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from grafana.__main__ import main
from grafana.alerts import files, groups, rules, uids
from grafana.boards import boards
from grafana.errors import AlertError
from grafana.interval import read_s
from grafana.query import SOURCE_TYPE, SOURCE_UID

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
DOCUMENTS = {path.name: yaml.safe_load(path.read_text()) for path in sorted(files.DIRECTORY.glob("*.yaml"))}
GROUPS = DOCUMENTS["rules.yaml"]["groups"]
RULES = [pytest.param(rule, id=rule["uid"]) for group in GROUPS for rule in group["rules"]]
PAGE = (ROOT / "docs" / "alerts.md").read_text()
# Of Grafana's templates of annotations, and Go's own.
FUNCTIONS = {"humanizeDuration", "humanizePercentage", "printf", "urlquery", "reReplaceAll"}


def test_what_is_committed_is_what_the_python_makes(tmp_path: Path) -> None:
    assert list(files.differing()) == []
    assert {path.name for path in files.write(tmp_path)} == set(DOCUMENTS)
    assert files.write(tmp_path) == []
    assert [(tmp_path / name).read_text() for name in DOCUMENTS] == [
        (files.DIRECTORY / name).read_text() for name in DOCUMENTS
    ]


def test_check_names_the_file_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path)
    rules_file = tmp_path / "rules.yaml"
    rules_file.write_text(rules_file.read_text().replace("for: 2m", "for: 9m", 1))
    (tmp_path / "policies.yaml").unlink()
    assert list(files.differing(tmp_path)) == ["rules.yaml differs from its Python", "policies.yaml is missing"]
    monkeypatch.setattr(files, "differing", lambda: iter(["rules.yaml differs from its Python"]))
    assert main(["check"]) == 1
    assert "rules.yaml differs from its Python" in capsys.readouterr().err


def test_uids_and_titles_are_unique_and_known() -> None:
    found = [rule.uid for rule in rules()]
    assert len(set(found)) == len(found) == len(RULES)
    assert set(found) <= uids.known()
    assert len({rule.title for rule in rules()}) == len(found)
    assert len({group.name for group in groups()}) == len(groups())
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in found), "Grafana takes 40 characters"


def test_a_rule_that_is_no_more_is_deleted_and_none_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write(tmp_path)
    known = uids.known()
    monkeypatch.setattr(uids, "known", lambda: known | {"headwater-of-old"})
    assert files.documents()["rules.yaml"]["deleteRules"] == [{"orgId": 1, "uid": "headwater-of-old"}]
    files.write(tmp_path)
    monkeypatch.undo()
    with pytest.raises(AlertError, match=r"has the rule headwater-of-old, which .* no longer knows"):
        files.write(tmp_path)
    assert any("headwater-of-old" in wrong for wrong in files.differing(tmp_path))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_what_grafana_and_an_operator_need(rule: dict[str, Any]) -> None:
    asked, judged = rule["data"]
    source = {"type": SOURCE_TYPE, "uid": SOURCE_UID}
    assert (asked["refId"], asked["datasourceUid"], asked["model"]["datasource"]) == ("A", SOURCE_UID, source)
    assert asked["model"]["format"] == "table"
    assert asked["model"]["rawQuery"] is True
    assert judged["refId"] == rule["condition"] == "B"
    assert (judged["model"]["type"], judged["model"]["expression"]) == ("threshold", "A")
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")


@pytest.mark.parametrize("rule", RULES)
def test_what_ends_an_alert_lies_below_what_begins_it(rule: dict[str, Any]) -> None:
    (condition,) = rule["data"][1]["model"]["conditions"]
    assert condition["evaluator"]["type"] == "gt"
    if "unloadEvaluator" in condition:
        assert condition["unloadEvaluator"]["type"] == "lt"
        assert condition["unloadEvaluator"]["params"] < condition["evaluator"]["params"]


def test_one_rule_alone_tells_that_the_database_is_away() -> None:
    states = {rule["uid"]: rule for group in GROUPS for rule in group["rules"]}
    telling = {uid for uid, rule in states.items() if rule["execErrState"] == "Alerting"}
    assert telling == {uids.DATABASE_AWAY}
    assert {rule["execErrState"] for uid, rule in states.items() if uid not in telling} == {"KeepLast"}
    assert {rule["noDataState"] for uid, rule in states.items() if uid not in telling} == {"OK"}


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group["name"])
def test_a_rule_lasts_for_whole_evaluations(group: dict[str, Any]) -> None:
    every_s = read_s(group["interval"])
    assert every_s % 10 == 0, "Grafana looks every ten seconds"
    assert all(read_s(rule[key]) % every_s == 0 for rule in group["rules"] for key in ("for", "keepFiringFor"))


def test_alerts_have_a_folder_of_their_own() -> None:
    provider = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/headwater.yaml").read_text())["providers"][0]
    # Grafana provisions alerts first: a folder that it made for them would lack the uid of the dashboards' own.
    assert {group["folder"] for group in GROUPS} == {files.FOLDER}
    assert provider["folder"] != files.FOLDER


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """As Grafana reads a text of these files: `$NAME` and `${NAME}` from its environment, nothing where it lacks."""
    return re.sub(r"\$(\w+|\{\w+\})", lambda found: environment.get(found[1].strip("{}"), ""), text)


@pytest.mark.parametrize("rule", RULES)
def test_no_text_loses_anything_to_the_environment(rule: dict[str, Any]) -> None:
    texts = {name: text for name, text in rule["annotations"].items() if name != "runbook_url"}
    for text in [rule["title"], *texts.values(), *rule["labels"].values()]:
        assert _expanded(text, {}) == text
    path, _, anchor = _expanded(rule["annotations"]["runbook_url"], {}).partition("#")
    assert (ROOT / path).is_file()
    assert _expanded(rule["annotations"]["runbook_url"], {"HEADWATER_DOCS": "https://docs/"}) == (
        f"https://docs/{path}#{anchor}"
    )
    assert f"\n## {rule['title']}\n" in PAGE
    assert anchor == rule["title"].lower().replace(" ", "-")


@pytest.mark.parametrize("rule", RULES)
def test_texts_name_labels_and_functions_that_there_are(rule: dict[str, Any]) -> None:
    sql = rule["data"][0]["model"]["rawSql"]
    for text in rule["annotations"].values():
        for action in re.findall(r"\{\{(.*?)\}\}", text):
            bare = re.sub(r'"[^"]*"|`[^`]*`', "", action)
            for label in re.findall(r"\.Labels\.(\w+)", bare):
                assert re.search(rf'(as |\.)"?{label}"?[,\n ]', sql), f"no column {label}"
            words = set(re.findall(r"(?<![.\w])[A-Za-z]\w*", bare))
            assert words <= FUNCTIONS | {"externalURL"}
            assert set(re.findall(r"\.Values\.(\w+)", bare)) <= {"A"}


@pytest.mark.parametrize("rule", RULES)
def test_each_leads_to_a_dashboard_and_variables_that_it_has(rule: dict[str, Any]) -> None:
    path = rule["annotations"]["dashboard"].rpartition("externalURL }}")[2]
    uid = re.match(r"/d/([\w-]+)(\?|$)", path)
    assert uid, path
    (board,) = [board for board in boards() if board.uid == uid[1]]
    assert set(re.findall(r"var-(\w+)=", path)) <= {variable.name for variable in board.variables}


@pytest.mark.parametrize("environment", [{}, {"HEADWATER_ALERT_TO": "both"}, {"HEADWATER_ALERT_TO": "email"}])
def test_messages_go_where_the_environment_says_and_grafana_starts_without_it(environment: dict[str, str]) -> None:
    points = DOCUMENTS["contact-points.yaml"]["contactPoints"]
    (policy,) = DOCUMENTS["policies.yaml"]["policies"]
    names = {point["name"] for point in points}
    for route in (policy, *policy["routes"]):
        assert _expanded(route["receiver"], environment) in names
    receivers = [receiver for point in points for receiver in point["receivers"]]
    assert len({receiver["uid"] for receiver in receivers}) == len(receivers)
    for receiver in receivers:
        # Grafana does not start where one of them is empty, whether anything is sent there or not.
        required = receiver["settings"]["url" if receiver["type"] == "webhook" else "addresses"]
        assert _expanded(required, environment)


def test_what_the_environment_names_is_what_is_used() -> None:
    told = {"HEADWATER_ALERT_WEBHOOK": "https://hook/x", "HEADWATER_ALERT_EMAIL": "a@example.org;b@example.org"}
    points = {point["name"]: point["receivers"] for point in DOCUMENTS["contact-points.yaml"]["contactPoints"]}
    webhook, email = points["headwater:both"]
    assert _expanded(webhook["settings"]["url"], told).partition("#")[0] == "https://hook/x"
    assert re.split("[;,\n]", _expanded(email["settings"]["addresses"], told).rstrip(";")) == [
        "a@example.org",
        "b@example.org",
    ]
    named = set(re.findall(r"\$\{(\w+)\}", "".join(path.read_text() for path in files.DIRECTORY.glob("*.yaml"))))
    assert named == {"HEADWATER_ALERT_TO", "HEADWATER_DOCS", *told}
    assert all(f"`{name}`" in PAGE for name in named)


def test_a_hundred_silent_nodes_are_one_message() -> None:
    (policy,) = DOCUMENTS["policies.yaml"]["policies"]
    assert policy["group_by"] == ["alertname"]
    assert all("group_by" not in route for route in policy["routes"])
    assert {tuple(matcher) for route in policy["routes"] for matcher in route["object_matchers"]} == {
        ("severity", "=", "critical")
    }
