"""A rule: a question to the database, from which answer on somebody is told, and in which words.

A query gives a table, of which each row is an alert of its own: one number, and texts that become the alert's labels
and tell it apart from all others. Grafana's alert engine takes that as it is, without a reducer. Rows of what is well
belong in it too: an alert whose row is gone stays for two evaluations more, one whose number is fine ends at once.

Texts name labels and values by `.Labels.node` and `.Values.A`, without a dollar sign, which Grafana would take for an
environment variable's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from grafana import uids as boards
from grafana.query import SOURCE_TYPE, SOURCE_UID

if TYPE_CHECKING:
    from grafana.query import Sql

Severity = Literal["critical", "warning"]
State = Literal["OK", "Alerting", "KeepLast"]

RUNBOOKS: Final = "docs/alerts.md"
# Who is meant, and the value.
NODE: Final = "{{ .Labels.group }}/{{ .Labels.node }}"
DURATION: Final = "{{ humanizeDuration .Values.A.Value }}"
COUNT: Final = '{{ printf "%.0f" .Values.A.Value }}'
TIMES: Final = '{{ printf "%.1f" .Values.A.Value }}'
SHARE: Final = "{{ humanizePercentage .Values.A.Value }}"
NODE_BOARD: Final = (
    f"/d/{boards.NODE}?var-group={{{{ urlquery .Labels.group }}}}&var-node={{{{ urlquery .Labels.node }}}}"
)
# Grafana's own address, which may end with a slash.
_ROOT: Final = r"{{ reReplaceAll `/*\z` `` externalURL }}"
_EXPRESSION: Final = "__expr__"


@dataclass(frozen=True, slots=True)
class Above:
    """Bad above `limit`; once it was, bad until it is below `until`: a value near the limit does not flicker."""

    limit: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What somebody is told of; `lasting` is how long it has to be bad before, `calm` how long good after.

    `no_rows` is what no row at all means, `failed` what it means that the database did not answer: with KeepLast an
    alert stays as it was, since one rule tells of that (pipeline.py), and not all of them.
    """

    uid: str
    title: str
    severity: Severity
    query: Sql
    bad: Above
    lasting: str
    summary: str
    description: str
    dashboard: str
    calm: str = "0s"
    no_rows: State = "OK"
    failed: State = "KeepLast"

    @property
    def anchor(self) -> str:
        """Of its section in the runbooks."""
        return self.title.lower().replace(" ", "-")

    def as_provisioned(self) -> dict[str, object]:
        """What stands in Grafana's file."""
        return {
            "uid": self.uid,
            "title": self.title,
            "condition": "B",
            "for": self.lasting,
            "keepFiringFor": self.calm,
            "noDataState": self.no_rows,
            "execErrState": self.failed,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "dashboard": _ROOT + self.dashboard,
                # Where the documentation lies, with a slash at its end; not set, a path in the repository.
                "runbook_url": f"${{HEADWATER_DOCS}}{RUNBOOKS}#{self.anchor}",
            },
            "data": [_asked(self.query), _judged(self.bad)],
        }


def _asked(query: Sql) -> dict[str, object]:
    # Of the time that is looked at queries say themselves what they need: each asks for another.
    return {
        "refId": "A",
        "datasourceUid": SOURCE_UID,
        "relativeTimeRange": {"from": 600, "to": 0},
        "model": {
            "refId": "A",
            "datasource": {"type": SOURCE_TYPE, "uid": SOURCE_UID},
            "editorMode": "code",
            "format": query.shape,
            "rawQuery": True,
            "rawSql": query.text + "\n",
        },
    }


def _judged(bad: Above) -> dict[str, object]:
    condition: dict[str, object] = {"type": "query", "evaluator": {"type": "gt", "params": [bad.limit]}}
    if bad.until is not None:
        condition["unloadEvaluator"] = {"type": "lt", "params": [bad.until]}
    return {
        "refId": "B",
        "datasourceUid": _EXPRESSION,
        "relativeTimeRange": {"from": 0, "to": 0},
        "model": {
            "refId": "B",
            "datasource": {"type": _EXPRESSION, "uid": _EXPRESSION},
            "type": "threshold",
            "expression": "A",
            "conditions": [condition],
        },
    }
