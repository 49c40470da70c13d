"""What a camera's configuration keeps while its process comes and goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.sources.camera.clips import HourOfBytes

if TYPE_CHECKING:
    from edge.sources.base import Place


@dataclass
class Kept:
    """What its clips took in the last hour, and where in which agent it stands; None in none."""

    hour: HourOfBytes = field(default_factory=HourOfBytes)
    place: Place | None = None
