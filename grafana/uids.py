"""The dashboards' uids: links and bookmarks point at them, so they never change."""

from __future__ import annotations

from typing import Final

HOME: Final = "headwater-home"
FLEET: Final = "headwater-fleet"
NODE: Final = "headwater-node"
MARKET: Final = "headwater-market"
PLANT: Final = "headwater-plant"
WEATHER: Final = "headwater-weather"
CAMERAS: Final = "headwater-cameras"
PIPELINE: Final = "headwater-pipeline"
