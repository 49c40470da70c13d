"""Panels: each has a title, the question that it answers, a unit, and what it says where there is nothing to show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import barchart, candlestick, common, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import table as tables
from grafana_foundation_sdk.builders.dashboard import FieldColor
from grafana_foundation_sdk.models.candlestick import CandleStyle, ColorStrategy, VizDisplayMode
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TableCellHeight,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import FieldColorModeId

from grafana import colours
from grafana.fields import limits as default_limits
from grafana.query import source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.cog.variants import Dataquery
    from grafana_foundation_sdk.models.common import DataSourceRef
    from grafana_foundation_sdk.models.dashboard import (
        DynamicConfigValue,
        MatcherConfig,
        ThresholdsConfig,
        ValueMapping,
    )

    from grafana.fields import Field
    from grafana.query import Sql


@dataclass(frozen=True, slots=True)
class About:
    """What every panel says of itself."""

    title: str
    question: str
    unit: str
    nothing: str


class _Panel(Protocol):
    """What the SDK's builders of panels have in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: DataSourceRef) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def no_value(self, no_value: str) -> Self: ...
    def with_target(self, target: Builder[Dataquery]) -> Self: ...
    def with_override(self, matcher: MatcherConfig, properties: list[DynamicConfigValue]) -> Self: ...
    def mappings(self, mappings: list[ValueMapping]) -> Self: ...
    def thresholds(self, thresholds: Builder[ThresholdsConfig]) -> Self: ...


_GAP_MS: Final = 600_000
# Grafana gives a table's column 150 otherwise, and lets it leave the panel.
LEAST_COLUMN: Final = 60
P = TypeVar("P", bound=_Panel)


def begin(panel: P, about: About, queries: Sequence[Sql], fields: Sequence[Field] = ()) -> P:
    """What is the same of every panel."""
    panel.title(about.title).description(about.question).datasource(source()).unit(about.unit).no_value(about.nothing)
    for ref, query in zip(ascii_uppercase, queries, strict=False):
        panel.with_target(replace(query, ref=ref))
    for field in fields:
        panel.with_override(field.matcher, list(field.properties))
    return panel


def lines(  # noqa: PLR0913 - what sets one chart apart from another, each by its name
    about: About,
    *queries: Sql,
    fields: Sequence[Field] = (),
    fill: int = 0,
    floor: float | None = None,
    ceiling: float | None = None,
    limits: Builder[ThresholdsConfig] | None = None,
    stacked: bool = False,
    bars: bool = False,
    axis: str = "",
    least: str = "1s",
) -> timeseries.Panel:
    """Values over time; limits are drawn as lines. `least` is the least `$__interval`: how often there is anything."""
    panel = begin(timeseries.Panel(), about, queries, fields)
    panel.legend(_legend()).tooltip(
        common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    )
    panel.draw_style(GraphDrawStyle.BARS if bars else GraphDrawStyle.LINE).line_width(1).axis_label(axis)
    panel.fill_opacity(60 if bars else fill).show_points(VisibilityMode.AUTO if not bars else VisibilityMode.NEVER)
    # Series that report at different times leave nulls in each other's columns, which are no gaps.
    panel.span_nulls(_GAP_MS)
    panel.interval(least)
    if floor is not None:
        panel.axis_soft_min(floor)
    if ceiling is not None:
        panel.axis_soft_max(ceiling)
    if limits is not None:
        panel.thresholds(limits).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("all"))
    return panel


def number(  # noqa: PLR0913 - as lines
    about: About,
    query: Sql,
    *,
    limits: Builder[ThresholdsConfig] | None = None,
    meanings: ValueMapping | None = None,
    spark: bool = False,
    fields: Sequence[Field] = (),
    text: bool = False,
) -> stat.Panel:
    """The last value, large; with `spark` how it came to it. A `text` is shown only where that is said."""
    panel = begin(stat.Panel(), about, [query], fields)
    shown = "/.*/" if text else ""
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False).fields(shown))
    panel.graph_mode(BigValueGraphMode.AREA if spark else BigValueGraphMode.NONE)
    panel.color_mode(BigValueColorMode.VALUE)
    panel.color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
    _coloured(panel, limits, meanings)
    return panel


def rows(about: About, query: Sql, *, fields: Sequence[Field] = ()) -> tables.Panel:
    """A table; its columns are named and ordered by the query."""
    panel = begin(tables.Panel(), about, [query], fields)
    return panel.min_width(LEAST_COLUMN).cell_height(TableCellHeight.SM).show_header(show_header=True)


def states(about: About, query: Sql, *, meanings: ValueMapping, holds: bool = False) -> statetimeline.Panel:
    """How something was from when to when, a line each; states are numbers with words for them.

    One that `holds` lasts until the next is told. Grafana ends it at the last row that its series has all the same,
    where others go on: the query tells at the end of the time how it stands.
    """
    panel = begin(statetimeline.Panel(), about, [query])
    panel.legend(_legend()).merge_values(merge_values=True).show_value(VisibilityMode.NEVER).row_height(0.85)
    # As with lines; a null ends a state.
    panel.span_nulls(holds or _GAP_MS)
    # In any other mode than this the words have no legend; their own colours come first.
    panel.color_scheme(FieldColor().mode(FieldColorModeId.FIXED).fixed_color(colours.OFF))
    _coloured(panel, None, meanings)
    return panel


def columns(about: About, query: Sql, *, x: str, fields: Sequence[Field] = ()) -> barchart.Panel:
    """Bars by name or hour, of a table."""
    panel = begin(barchart.Panel(), about, [query], fields)
    return panel.x_field(x).legend(_legend()).show_value(VisibilityMode.NEVER)


def candles(about: About, query: Sql, *, fields: Sequence[Field] = ()) -> candlestick.Panel:
    """Open, high, low, close and volume, by the names of the query's columns."""
    panel = begin(candlestick.Panel(), about, [query], fields)
    panel.mode(VizDisplayMode.CANDLES_VOLUME).candle_style(CandleStyle.CANDLES)
    panel.color_strategy(ColorStrategy.OPEN_CLOSE).include_all_fields(include_all_fields=False)
    panel.colors(candlestick.CandlestickColors().up(colours.GOOD).down(colours.BAD).flat(colours.OFF))
    return panel.legend(_legend())


def _coloured(panel: _Panel, limits: Builder[ThresholdsConfig] | None, meanings: ValueMapping | None) -> None:
    panel.thresholds(limits or default_limits(base=colours.MEASURED))
    if meanings is not None:
        panel.mappings([meanings])


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
