"""What Grafana's alert engine makes of an answer: alerts, and the states that they go through.

After Grafana 12: `pkg/expr` for what a table may look like and for thresholds, `pkg/services/ngalert/state` for states.
Left out is what no rule here can come to, such as series over time and the states NoData and Error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from grafana.errors import AlertError
from grafana.interval import read_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Document = Mapping[str, Any]

Kind = Literal["number", "text", "other"]
Labels: TypeAlias = frozenset[tuple[str, str]]
Phase = Literal["Normal", "Pending", "Alerting", "Recovering"]

# An alert whose row is gone keeps its state for so many evaluations.
_MISSED: Final = 2


@dataclass(frozen=True, slots=True)
class Alert:
    """One row's alert; in its phase since then, with its row in the last answer but `missed`."""

    phase: Phase
    since_s: float
    missed: int = 0


def numbers(columns: Sequence[tuple[str, Kind]], rows: Sequence[Sequence[Any]]) -> dict[Labels, float]:
    """A table's rows as the engine takes them: the one number by the texts beside it; raises AlertError."""
    kinds = [kind for _, kind in columns]
    if kinds.count("number") != 1 or "other" in kinds:
        raise AlertError(f"an answer needs one number, and texts beside it, not {', '.join(kinds)}")
    place = kinds.index("number")
    found: dict[Labels, float] = {}
    for row in rows:
        labels = frozenset((name, row[at] or "") for at, (name, kind) in enumerate(columns) if kind == "text")
        if labels in found:
            raise AlertError(f"two rows have the labels {dict(sorted(labels))}")
        found[labels] = float("nan") if row[place] is None else float(row[place])
    return found


def is_bad(condition: Document, value: float, *, was_bad: bool) -> bool:
    """The threshold; one with hysteresis holds until the value is beyond its second one."""
    if was_bad and "unloadEvaluator" in condition:
        return not _holds(condition["unloadEvaluator"], value)
    return _holds(condition["evaluator"], value)


def _holds(evaluator: Document, value: float) -> bool:
    (limit,) = evaluator["params"]
    return bool({"gt": value > limit, "lt": value < limit}[evaluator["type"]])


def evaluate(
    rule: Document, before: Mapping[Labels, Alert], answer: Mapping[Labels, float] | None, at_s: float
) -> dict[Labels, Alert]:
    """All alerts of a rule, as it stands in the file, after an answer; `None`: the database did not answer."""
    if not answer:
        state = rule["execErrState"] if answer is None else rule["noDataState"]
        return _without_rows(rule, before, state, at_s)
    (condition,) = next(each["model"] for each in rule["data"] if each["refId"] == rule["condition"])["conditions"]
    after = {
        labels: _next(rule, before.get(labels), at_s, is_bad=is_bad(condition, value, was_bad=_was_bad(before, labels)))
        for labels, value in answer.items()
    }
    for labels, alert in before.items():
        if labels not in answer and alert.missed + 1 < _MISSED:
            after[labels] = Alert(alert.phase, alert.since_s, alert.missed + 1)
    return after


def _was_bad(before: Mapping[Labels, Alert], labels: Labels) -> bool:
    return labels in before and before[labels].phase in ("Pending", "Alerting")


def _without_rows(rule: Document, before: Mapping[Labels, Alert], state: str, at_s: float) -> dict[Labels, Alert]:
    """All that there are go the same way; where there is none, there is one without labels."""
    if state == "KeepLast":
        return dict(before)
    alerts = before or {frozenset(): Alert("Normal", at_s)}
    return {labels: _next(rule, alert, at_s, is_bad=state == "Alerting") for labels, alert in alerts.items()}


def _next(rule: Document, before: Alert | None, at_s: float, *, is_bad: bool) -> Alert:
    alert = before or Alert("Normal", at_s)
    if is_bad:
        return _worse(alert, at_s, read_s(rule["for"]))
    return _better(alert, at_s, read_s(rule["keepFiringFor"]))


def _worse(alert: Alert, at_s: float, lasting_s: float) -> Alert:
    match alert.phase:
        case "Alerting":
            return Alert("Alerting", alert.since_s)
        case "Recovering":
            return Alert("Alerting", at_s)
        case "Pending":
            return Alert("Alerting", at_s) if at_s - alert.since_s >= lasting_s else Alert("Pending", alert.since_s)
        case "Normal":
            return Alert("Pending" if lasting_s else "Alerting", at_s)


def _better(alert: Alert, at_s: float, calm_s: float) -> Alert:
    match alert.phase:
        case "Alerting" if calm_s:
            return Alert("Recovering", at_s)
        case "Recovering" if at_s - alert.since_s < calm_s:
            return Alert("Recovering", alert.since_s)
        case "Normal":
            return Alert("Normal", alert.since_s)
        case _:
            return Alert("Normal", at_s)
