"""Template variables: what a dashboard lets one choose.

Only options that the query gives are allowed: a value that is typed in, or comes with a link, is quoted all the same.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import CustomVariable, QueryVariable
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

from grafana.macros import ALL
from grafana.query import source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.models.dashboard import VariableModel


@dataclass(frozen=True, slots=True)
class Asked:
    """A variable whose options are what a query returns: its one column, or `__value` and `__text`."""

    name: str
    label: str
    query: str
    several: bool = False

    def build(self) -> Builder[VariableModel]:
        """As Grafana has it; where several may be chosen, all are at first."""
        text = textwrap.dedent(self.query).strip()
        variable = (
            QueryVariable(self.name)
            .label(self.label)
            .datasource(source())
            .query(text)
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.DISABLED)
            .allow_custom_value(allow_custom_value=False)
            .multi(self.several)
            .include_all(self.several)
        )
        return variable.current(VariableOption(text="All", value=ALL)) if self.several else variable


@dataclass(frozen=True, slots=True)
class Given:
    """A variable whose options are known; the first is chosen."""

    name: str
    label: str
    options: Mapping[str, str]

    def build(self) -> Builder[VariableModel]:
        """As Grafana has it."""
        text, value = next(iter(self.options.items()))
        return (
            CustomVariable(self.name)
            .label(self.label)
            .values(",".join(f"{shown} : {kept}" for shown, kept in self.options.items()))
            .current(VariableOption(text=text, value=value))
            .options([VariableOption(text=shown, value=kept) for shown, kept in self.options.items()])
            .allow_custom_value(allow_custom_value=False)
        )


def group() -> Asked:
    """A group of nodes."""
    return Asked("group", "Group", "select distinct group_id from node order by 1")


def node() -> Asked:
    """A node of the group."""
    return Asked("node", "Node", "select node_id from node where group_id = ${group:sqlstring} order by 1")
