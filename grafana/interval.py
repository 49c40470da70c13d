"""Grafana's intervals: which one `$__interval` stands for, and how they are written."""

from __future__ import annotations

import re
from typing import Final

from grafana.errors import MacroError

# As Grafana rounds in the browser (rangeutil.roundInterval): below the first number of seconds, the second.
_ROUNDED: Final = (
    (1.5, 1.0),
    (3.5, 2.0),
    (7.5, 5.0),
    (12.5, 10.0),
    (17.5, 15.0),
    (25.0, 20.0),
    (45.0, 30.0),
    (90.0, 60.0),
    (210.0, 120.0),
    (450.0, 300.0),
    (750.0, 600.0),
    (1_050.0, 900.0),
    (1_500.0, 1_200.0),
    (2_700.0, 1_800.0),
    (5_400.0, 3_600.0),
    (9_000.0, 7_200.0),
    (16_200.0, 10_800.0),
    (32_400.0, 21_600.0),
    (86_400.0, 43_200.0),
    (604_800.0, 86_400.0),
    (1_814_400.0, 604_800.0),
    (3_628_800.0, 2_592_000.0),
)
_YEAR_S: Final = 31_536_000.0
# The units that it writes, the longest first; a whole number of one, cut off.
_WRITTEN: Final = (("y", _YEAR_S), ("d", 86_400.0), ("h", 3_600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
# It reads weeks too.
_READ: Final = dict(_WRITTEN) | {"w": 604_800.0}
_INTERVAL: Final = re.compile(r"(\d+)(ms|[smhdwy])")


def interval_s(range_s: float, points: int, least_s: float = 1.0) -> float:
    """What `$__interval` is, in seconds, for a panel `points` wide, and no less than `least_s`."""
    exact = range_s / points
    rounded = next((chosen for below, chosen in _ROUNDED if exact < below), _YEAR_S)
    return max(rounded, least_s)


def written(seconds: float) -> str:
    """An interval as Grafana puts it into a query, such as `5m`."""
    for unit, length_s in _WRITTEN:
        if round(seconds, 3) >= length_s:
            return f"{int(round(seconds, 3) / length_s)}{unit}"
    return "1ms"


def read_s(text: str) -> float:
    """The seconds of an interval such as `5m`; raises MacroError."""
    found = _INTERVAL.fullmatch(text)
    if found is None:
        raise MacroError(f"{text!r} is no interval: allowed are a whole number and one of {', '.join(_READ)}")
    return int(found[1]) * _READ[found[2]]
