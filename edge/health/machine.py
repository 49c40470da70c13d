"""What the machine says of itself beside the time: how warm its processor is."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_ZONES: Final = Path("/sys/class/thermal")
# cpu-thermal, soc_thermal, x86_pkg_temp, bigcore0-thermal; others are batteries, radios and mainboards.
_OF_PROCESSOR: Final = re.compile("cpu|soc|pkg|core")
_PER_DEGREE: Final = 1000
# Drivers say -274 or 0 K for a sensor that is off.
_PLAUSIBLE: Final = range(-60_000, 200_000)


def processor_celsius(zones: Path = _ZONES) -> float | None:
    """The warmest of the zones that are named after a processor, else of all; None where nothing is measured."""
    of_processor: list[int] = []
    of_others: list[int] = []
    for zone in zones.glob("thermal_zone*"):
        # One that cannot be read now (a radio that is off) is not there.
        with suppress(OSError, ValueError):
            kind = (zone / "type").read_text(encoding="utf-8")
            millidegrees = int((zone / "temp").read_text(encoding="ascii"))
            if millidegrees in _PLAUSIBLE:
                (of_processor if _OF_PROCESSOR.search(kind.lower()) else of_others).append(millidegrees)
    warmest = max(of_processor or of_others, default=None)
    return None if warmest is None else warmest / _PER_DEGREE
