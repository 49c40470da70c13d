"""Alerts: what somebody is told of without looking, written here and provisioned as files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana.alerts import findings, nodes, pipeline, updates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.alerts.rule import Rule

__all__ = ["Group", "groups", "rules"]


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, and how often."""

    name: str
    every: str
    rules: Sequence[Rule]


def groups() -> Sequence[Group]:
    """All that there are."""
    return (
        Group("Nodes", "1m", nodes.rules()),
        Group("Findings", "1m", findings.rules()),
        Group("Pipeline", "1m", pipeline.rules()),
        Group("Updates", "1m", updates.rules()),
        Group("Slow", "10m", (findings.skill(), pipeline.database_large())),
    )


def rules() -> Sequence[Rule]:
    """Of all groups."""
    return tuple(rule for group in groups() for rule in group.rules)
