"""A map of places: markers by latitude and longitude, in the colour of a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common, geomap
from grafana_foundation_sdk.models.common import FrameGeometrySourceMode
from grafana_foundation_sdk.models.geomap import TooltipMode

from grafana.panels import begin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.fields import Field
    from grafana.panels import About
    from grafana.query import Sql


def places(about: About, query: Sql, *, state: str, name: str, fields: Sequence[Field] = ()) -> geomap.Panel:
    """Markers at the query's `latitude` and `longitude`; the field `state` colours them, `name` stands beside them."""
    markers = (
        common.MapLayerOptions()
        .type("markers")
        .name("Nodes")
        .location(
            common.FrameGeometrySource()
            .mode(FrameGeometrySourceMode.COORDS)
            .latitude("latitude")
            .longitude("longitude")
        )
        .config(
            {
                "showLegend": False,
                "style": {
                    "color": {"field": state},
                    "opacity": 0.9,
                    "size": {"fixed": 8},
                    "symbol": {"fixed": "img/icons/marker/circle.svg", "mode": "fixed"},
                    "text": {"mode": "field", "field": name},
                    "textConfig": {"fontSize": 12, "offsetX": 0, "offsetY": -14},
                },
            }
        )
        .tooltip(tooltip=True)
    )
    panel = begin(geomap.Panel(), about, [query], fields)
    panel.view(geomap.MapViewConfig().id("fit").all_layers(all_layers=True).zoom(12).padding(20))
    panel.controls(geomap.ControlsOptions().show_zoom(show_zoom=True).mouse_wheel_zoom(mouse_wheel_zoom=False))
    panel.tooltip(geomap.TooltipOptions().mode(TooltipMode.DETAILS))
    return panel.basemap(common.MapLayerOptions().type("default").name("Map")).layers([markers])
