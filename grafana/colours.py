"""Colours by what they mean: the same thing has the same colour on every dashboard."""

from __future__ import annotations

from typing import Final

GOOD: Final = "green"
NOTE: Final = "yellow"
WARNING: Final = "orange"
BAD: Final = "red"
OFF: Final = "#8e8e8e"

ARRIVED: Final = "#37a2b0"
MEASURED: Final = "#3274d9"
EXPECTED: Final = "#ff9830"
BAND: Final = "#ffb357"
CLOUD: Final = "#5794f2"
EDGE: Final = "#b877d9"
NAIVE: Final = "#8e8e8e"
LIMIT: Final = "dark-red"
SETPOINT: Final = "#37872d"

WATER: Final = "#1f60c4"
PIPE: Final = "#8ab8ff"
FRAME: Final = "#52545c"
