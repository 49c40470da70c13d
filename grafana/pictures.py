"""A picture of a process: boxes with words and live values, and pipes between them.

Places and sizes are percent of the panel, but texts are as large on a phone as on a screen: no more than four boxes
stand beside each other (`FITS_BESIDE`), and what flows goes on in the next row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from grafana_foundation_sdk.builders import canvas
from grafana_foundation_sdk.builders.common import ColorDimensionConfig, ScaleDimensionConfig
from grafana_foundation_sdk.models.canvas import HorizontalConstraint, VerticalConstraint

from grafana import colours
from grafana.panels import begin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.fields import Field
    from grafana.panels import About
    from grafana.query import Sql


FITS_BESIDE: Final = 4
Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Pipe:
    """From the middle of a box's side to that of another box."""

    to: str
    leaves: Side = "right"
    arrives: Side = "left"


@dataclass(frozen=True, slots=True)
class Box:
    """A shape with a word in it, or with the value of a field; pipes lead from it to other boxes."""

    name: str
    left: float
    top: float
    width: float
    height: float
    word: str = ""
    field: str = ""
    kind: str = "rectangle"
    fill: str = "transparent"
    size: int = 14
    pipes: tuple[Pipe, ...] = ()


def picture(about: About, query: Sql, boxes: Sequence[Box], *, fields: Sequence[Field] = ()) -> canvas.Panel:
    """The panel; the query returns one row, a column for each field."""
    panel = begin(canvas.Panel(), about, [query], fields)
    root = canvas.CanvasOptionsRoot().name("Process").elements([_element(box) for box in boxes])
    panel.inline_editing(inline_editing=False).show_advanced_types(show_advanced_types=True)
    return panel.pan_zoom(pan_zoom=False).infinite_pan(infinite_pan=False).root(root)


def _element(box: Box) -> canvas.CanvasElementOptions:
    element = (
        canvas.CanvasElementOptions()
        .name(box.name)
        .type("metric-value" if box.field else box.kind)
        .constraint(canvas.Constraint().horizontal(HorizontalConstraint.SCALE).vertical(VerticalConstraint.SCALE))
        .placement(
            canvas.Placement()
            .left(box.left)
            .top(box.top)
            .right(100 - box.left - box.width)
            .bottom(100 - box.top - box.height)
        )
        .background(canvas.BackgroundConfig().color(ColorDimensionConfig().fixed(box.fill)))
        .config(_config(box))
        .connections([_pipe(pipe) for pipe in box.pipes])
    )
    if not box.field and box.kind != "text":
        element.border(canvas.LineConfig().color(ColorDimensionConfig().fixed(colours.FRAME)).width(2))
    return element


def _config(box: Box) -> dict[str, object]:
    text = {"mode": "field", "field": box.field, "fixed": ""} if box.field else {"mode": "fixed", "fixed": box.word}
    return {"text": text, "size": box.size, "align": "center", "valign": "middle", "color": {"fixed": "text"}}


def _pipe(pipe: Pipe) -> canvas.CanvasConnection:
    return (
        canvas.CanvasConnection()
        .source(_middle(pipe.leaves))
        .target(_middle(pipe.arrives))
        .target_name(pipe.to)
        .color(ColorDimensionConfig().fixed(colours.PIPE))
        .size(ScaleDimensionConfig().fixed(4).min(1).max(10))
    )


def _middle(side: Side) -> canvas.ConnectionCoordinates:
    return canvas.ConnectionCoordinates().x(1 if side == "right" else -1).y(0)
