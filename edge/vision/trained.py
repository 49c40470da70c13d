"""A trained model of the scene, run in the camera's own process: what crashes or hangs ends that, and the agent knows.

The runtime is imported when there is a model. One that hangs is ended by the kernel: no thread of ours could.
"""

from __future__ import annotations

import math
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edge.inference.settings import SceneSettings
from edge.vision.hours import is_within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.inference.scene import LoadedScene
    from edge.vision.scene import Thumb

# A thousand times what a picture takes on a PC.
_LONGEST_S: Final = 2.0


class ModelFault(Exception):  # noqa: N818 - told to the agent as a line of text
    """A model that is refused, or whose result is no good."""


class Verdict(NamedTuple):
    """What a model says of a picture."""

    score: float
    is_anomaly: bool


class TrainedScene:
    """A model in its hours."""

    def __init__(self, loaded: LoadedScene) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._is_anomaly = False

    @classmethod
    def load(cls, document: dict[str, Any]) -> TrainedScene:
        """The model that the agent tells of; raises ModelFault."""
        from edge.inference.runtime import NetError  # noqa: PLC0415 - 10 MB that a camera without a model does not need
        from edge.inference.scene import load_scene  # noqa: PLC0415 - as above

        try:
            with _in_time():
                return cls(load_scene(SceneSettings.from_document(document)))
        except NetError as exc:
            raise ModelFault(str(exc)) from exc

    def look(self, thumb: Thumb, utc_s: float) -> Verdict | None:
        """What it says of a picture whose masked places are blank, None outside of its hours; raises ModelFault."""
        from edge.inference.runtime import NetError  # noqa: PLC0415 - as above

        settings = self._settings
        if not is_within(utc_s, settings.begin_s, settings.span_s):
            self._is_anomaly = False
            return None
        try:
            with _in_time():
                error = self._loaded.error(thumb)
        except NetError as exc:
            raise ModelFault(str(exc)) from exc
        score = abs(math.log((error + settings.floor) / (settings.usual + settings.floor)))
        self._is_anomaly = score > settings.threshold or (self._is_anomaly and score >= settings.clear)
        return Verdict(score, self._is_anomaly)


@contextmanager
def _in_time() -> Iterator[None]:
    """Has the kernel end this process, by SIGALRM, where what is inside takes too long."""
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
