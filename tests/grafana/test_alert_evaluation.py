"""How alerts begin and end: thresholds, hysteresis, and the states between."""

from __future__ import annotations

import math
from typing import Any

import pytest

from grafana.alerts.evaluate import Alert, evaluate, is_bad, numbers
from grafana.errors import AlertError

ONE = frozenset({("node", "a")})
OTHER = frozenset({("node", "b")})


def rule(lasting: str = "2m", calm: str = "0s", no_rows: str = "OK", failed: str = "KeepLast") -> dict[str, Any]:
    condition = {
        "evaluator": {"type": "gt", "params": [10]},
        "unloadEvaluator": {"type": "lt", "params": [5]},
    }
    return {
        "condition": "B",
        "for": lasting,
        "keepFiringFor": calm,
        "noDataState": no_rows,
        "execErrState": failed,
        "data": [{"refId": "A", "model": {}}, {"refId": "B", "model": {"conditions": [condition]}}],
    }


def phases(document: dict[str, Any], values: list[float | None], every_s: float = 60) -> list[str]:
    """Of one alert, each minute; None: the database did not answer."""
    alerts: dict[Any, Alert] = {}
    told = []
    for step, value in enumerate(values):
        alerts = evaluate(document, alerts, None if value is None else {ONE: value}, step * every_s)
        told.append(alerts[ONE].phase[0] if ONE in alerts else "-")
    return told


def test_a_table_is_numbers_by_their_labels() -> None:
    columns = [("node", "text"), ("value", "number"), ("device", "text")]
    found = numbers(columns, [("a", 1, "x"), ("a", 2.5, None), ("b", None, "x")])  # type: ignore[arg-type]  # literals
    assert found[frozenset({("node", "a"), ("device", "x")})] == 1
    assert found[frozenset({("node", "a"), ("device", "")})] == 2.5
    assert math.isnan(found[frozenset({("node", "b"), ("device", "x")})])


@pytest.mark.parametrize("kinds", [["text"], ["number", "number"], ["number", "other"], []])
def test_an_answer_that_the_engine_refuses_is_an_error(kinds: list[Any]) -> None:
    with pytest.raises(AlertError, match="needs one number"):
        numbers([(f"c{place}", kind) for place, kind in enumerate(kinds)], [])


def test_two_rows_of_the_same_labels_are_an_error() -> None:
    with pytest.raises(AlertError, match=r"two rows have the labels \{'node': 'a'\}"):
        numbers([("node", "text"), ("value", "number")], [("a", 1), ("a", 2)])


@pytest.mark.parametrize(
    ("value", "was_bad", "bad"),
    [(10, False, False), (10.1, False, True), (7, False, False), (7, True, True), (5, True, True), (4.9, True, False)],
)
def test_between_the_two_limits_it_stays_as_it_was(value: float, was_bad: bool, bad: bool) -> None:  # noqa: FBT001 - a case
    (condition,) = rule()["data"][1]["model"]["conditions"]
    assert is_bad(condition, value, was_bad=was_bad) is bad


def test_without_a_second_limit_there_is_one() -> None:
    condition = {"evaluator": {"type": "gt", "params": [0]}}
    assert is_bad(condition, 0.5, was_bad=False)
    assert not is_bad(condition, 0, was_bad=True)


def test_it_is_told_when_it_has_lasted_and_not_before() -> None:
    assert phases(rule("2m"), [0, 20, 20, 20, 20, 0]) == ["N", "P", "P", "A", "A", "N"]
    assert phases(rule("2m"), [20, 0, 20, 20, 20]) == ["P", "N", "P", "P", "A"]
    assert phases(rule("0s"), [20, 0]) == ["A", "N"]


def test_hysteresis_holds_while_it_is_pending_and_while_it_is_told() -> None:
    assert phases(rule("1m"), [20, 7, 7, 4, 7]) == ["P", "A", "A", "N", "N"]


def test_it_goes_on_until_it_was_calm_for_long_enough() -> None:
    assert phases(rule("0s", calm="2m"), [20, 0, 0, 0]) == ["A", "R", "R", "N"]
    assert phases(rule("1m", calm="2m"), [20, 20, 0, 20, 0, 0, 0]) == ["P", "A", "R", "A", "R", "R", "N"]


def test_a_database_that_does_not_answer_changes_nothing_but_where_it_is_told() -> None:
    assert phases(rule("0s"), [20, None, None, 20]) == ["A", "A", "A", "A"]
    assert phases(rule("1m", failed="Alerting"), [0, None, None, 0]) == ["N", "P", "A", "N"]
    alone = evaluate(rule("0s", failed="Alerting"), {}, None, 0)
    assert alone == {frozenset(): Alert("Alerting", 0)}


def test_no_rows_are_calm() -> None:
    alerts = evaluate(rule("0s"), {}, {ONE: 20, OTHER: 20}, 0)
    assert {alert.phase for alert in evaluate(rule("0s"), alerts, {}, 60).values()} == {"Normal"}


def test_an_alert_whose_row_is_gone_is_gone_after_two_evaluations() -> None:
    first = evaluate(rule("0s"), {}, {ONE: 20, OTHER: 20}, 0)
    second = evaluate(rule("0s"), first, {ONE: 20}, 60)
    assert second[OTHER].phase == "Alerting"
    assert set(evaluate(rule("0s"), second, {ONE: 20}, 120)) == {ONE}
