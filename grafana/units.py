"""Units by Grafana's names for them, and those of ours that it has none for."""

from __future__ import annotations

from typing import Final

NONE: Final = "none"
COUNT: Final = "short"
SHARE: Final = "percentunit"
PERCENT: Final = "percent"
SECONDS: Final = "s"
MILLISECONDS: Final = "ms"
BYTES: Final = "bytes"
MEBIBYTES: Final = "mbytes"
PER_SECOND: Final = "suffix:/s"
READINGS_PER_SECOND: Final = "suffix:readings/s"
TIME: Final = "dateTimeAsLocal"
AGO: Final = "dateTimeFromNow"

METRES: Final = "lengthm"
CUBIC_METRES_PER_HOUR: Final = "suffix:m³/h"
CELSIUS: Final = "celsius"
HECTOPASCAL: Final = "pressurehpa"
KILOMETRES_PER_HOUR: Final = "velocitykmh"
DEGREES: Final = "degree"
MILLIMETRES: Final = "lengthmm"
MILLIMETRES_PER_SECOND: Final = "suffix:mm/s"
REVOLUTIONS: Final = "rotrpm"
AMPERE: Final = "amp"
WATT: Final = "watt"
MILLIGRAMS_PER_LITRE: Final = "suffix:mg/L"
PH: Final = "pH"
NTU: Final = "suffix:NTU"
GREY_LEVELS: Final = "suffix:grey levels"
