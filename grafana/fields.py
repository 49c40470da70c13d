"""How single fields of a panel are shown: names, units, colours, widths, links and words for numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import (
    DynamicConfigValue,
    MatcherConfig,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Field:
    """What is special about the fields that a matcher finds."""

    matcher: MatcherConfig
    properties: tuple[DynamicConfigValue, ...]


def named(name: str, *properties: DynamicConfigValue) -> Field:
    """Of the field of this name."""
    return Field(MatcherConfig("byName", name), properties)


def like(pattern: str, *properties: DynamicConfigValue) -> Field:
    """Of the fields whose names match a regular expression, `/.../`."""
    return Field(MatcherConfig("byRegexp", pattern), properties)


def unit(unit_id: str) -> DynamicConfigValue:
    """A unit other than the panel's."""
    return DynamicConfigValue("unit", unit_id)


def colour(name: str) -> DynamicConfigValue:
    """One colour, whatever the value."""
    return DynamicConfigValue("color", {"mode": "fixed", "fixedColor": name})


def width(pixels: int) -> DynamicConfigValue:
    """Of a table's column."""
    return DynamicConfigValue("custom.width", pixels)


def thick(pixels: int) -> DynamicConfigValue:
    """Width of a line; 0 for the edge of a band."""
    return DynamicConfigValue("custom.lineWidth", pixels)


def dots() -> DynamicConfigValue:
    """Points and no line between them: a direction does not go from 359° to 1° by way of 180°."""
    return DynamicConfigValue("custom.drawStyle", "points")


def dashed() -> DynamicConfigValue:
    """A line that was not measured: a limit, a set point, a comparison."""
    return DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]})


def stepped() -> DynamicConfigValue:
    """A value that holds until the next, such as a set point."""
    return DynamicConfigValue("custom.lineInterpolation", "stepAfter")


def filled_to(name: str, percent: int = 25) -> tuple[DynamicConfigValue, ...]:
    """The upper edge of a band whose lower edge is another field."""
    return (DynamicConfigValue("custom.fillBelowTo", name), DynamicConfigValue("custom.fillOpacity", percent))


def fan(name: str, *, of: str = "") -> tuple[Field, ...]:
    """A forecast as a band from p10 to p90 with its median, in one colour; `of` stands before their names."""
    return (
        named(f"{of}p90", *filled_to(f"{of}p10", 18), thick(0), colour(name)),
        named(f"{of}p10", thick(0), colour(name)),
        named(f"{of}p50", dashed(), colour(name)),
    )


def on_the_right(label: str) -> tuple[DynamicConfigValue, ...]:
    """An axis of its own, on the right, with its unit as its name."""
    return (DynamicConfigValue("custom.axisPlacement", "right"), DynamicConfigValue("custom.axisLabel", label))


def image() -> DynamicConfigValue:
    """A table's cell that shows the picture in it."""
    return DynamicConfigValue("custom.cellOptions", {"type": "image"})


def wrapped() -> tuple[DynamicConfigValue, ...]:
    """A table's text in as many lines as it has; nothing else makes a row higher than 48 pixels."""
    return (
        # Where Grafana 12 looks for it, and where it did before.
        DynamicConfigValue("custom.wrapText", value=True),
        DynamicConfigValue("custom.cellOptions", {"type": "auto", "wrapText": True}),
    )


def lamp() -> DynamicConfigValue:
    """A table's cell in the colour of its value."""
    return DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"})


def link(title: str, url: str) -> DynamicConfigValue:
    """Where a click on a value leads."""
    return DynamicConfigValue("links", [{"title": title, "url": url}])


def limits(*steps: tuple[float, str], base: str) -> ThresholdsConfig:
    """Colours by value: `base`, and from each number on another."""
    of_base, *others = [(None, base), *steps]
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(of_base[0], of_base[1]), *(Threshold(value, name) for value, name in others)])
    )


def thresholds(*steps: tuple[float, str], base: str) -> DynamicConfigValue:
    """The same for one field."""
    return DynamicConfigValue("thresholds", limits(*steps, base=base).build())


def words(meanings: Mapping[str, tuple[str, str]]) -> ValueMap:
    """Words and colours for values, such as `{"1": ("online", "green")}`."""
    return ValueMap(
        {
            value: ValueMappingResult(text=text, color=name, index=index)
            for index, (value, (text, name)) in enumerate(meanings.items())
        }
    )


def said(meanings: Mapping[str, tuple[str, str]]) -> DynamicConfigValue:
    """The same for one field."""
    return DynamicConfigValue("mappings", [words(meanings)])
