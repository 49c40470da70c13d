"""The samples that a camera gathers for a model of its scene: numbered, bounded, and counted over restarts."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from contract.clips import CLIP, MAX_FRAMES, ClipFrame
from contract.datatypes import DataType
from contract.scene import REQUEST, SAMPLE, event_of, span_of
from edge.reading import Reading
from edge.sources.camera.clips import HourOfBytes
from edge.vision.settings import LearnSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from edge.sources.camera.scene_config import LearnConfig

logger = logging.getLogger(__name__)

_MAX_FILE_BYTES: Final = 4096
# One that comes a little early is not too soon.
_SLACK: Final = 0.9


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it has come; `of` says of which configuration, times are UTC ms."""

    of: str
    session_ms: int = 0
    part_ms: int = 0
    last_ms: int = 0
    sent: int = 0


class Learning:
    """Makes readings of samples until there are enough; the last one is the request for a model."""

    def __init__(self, config: LearnConfig, masks: object, file: Path | None) -> None:
        self._config = config
        self._file = file
        self._hour = HourOfBytes()
        begin_s, span_s = span_of(config.quiet_hours)
        self._settings = LearnSettings(config.every_s, begin_s, span_s, config.while_motion)
        # What is seen is another picture where other places are blank.
        of = repr((config.quiet_hours, config.samples, config.every_s, config.while_motion, config.round, masks))
        self._progress = self._restored(hashlib.sha256(of.encode()).hexdigest()[:16])

    @property
    def sent(self) -> int:
        """How many there are."""
        return self._progress.sent

    @property
    def is_complete(self) -> bool:
        """Whether there are enough."""
        return self._progress.sent >= self._config.samples

    @property
    def settings(self) -> LearnSettings | None:
        """What the process is told; None where there are enough."""
        return None if self.is_complete else self._settings

    def reading(self, told: Mapping[str, Any], at_ms: Callable[[Mapping[str, Any]], int]) -> Reading | None:
        """The reading of a sample, which then counts as sent; None where it may not be."""
        taken_ms, jpeg = at_ms(told["taken"]), base64.b64decode(told["jpeg"])
        if self.is_complete or self._is_too_soon(taken_ms):
            return None
        if not self._hour.take(len(jpeg), self._config.max_hour_bytes, time.monotonic()):
            return None
        frame = self._next(taken_ms, jpeg)
        return Reading(CLIP, DataType.BYTES, jpeg, taken_ms, properties=frame.properties())

    def _is_too_soon(self, taken_ms: int) -> bool:
        # A process that was started again knows of none before.
        since_ms = taken_ms - self._progress.last_ms
        return self._progress.sent > 0 and 0 <= since_ms < _SLACK * 1000 * self._config.every_s

    def _next(self, taken_ms: int, jpeg: bytes) -> ClipFrame:
        """The sample as a frame of a clip, which has room for so many only; it is counted."""
        before = self._progress
        part, place = divmod(before.sent, MAX_FRAMES)
        session_ms = before.session_ms or taken_ms
        part_ms = before.part_ms if place else taken_ms
        self._keep(Progress(before.of, session_ms, part_ms, taken_ms, before.sent + 1))
        frames = min(MAX_FRAMES, self._config.samples - part * MAX_FRAMES)
        kind = REQUEST if self.is_complete else SAMPLE
        return ClipFrame(event_of(session_ms, part), kind, place + 1, frames, part_ms, jpeg)

    def _restored(self, of: str) -> Progress:
        """What the file says, or a beginning where it says nothing, or of another configuration."""
        if self._file is None:
            return Progress(of)
        try:
            with self._file.open("rb") as file:
                found: dict[str, Any] = json.loads(file.read(_MAX_FILE_BYTES))
            numbers = [found[key] for key in ("session_ms", "part_ms", "last_ms", "sent")]
            if found["of"] == of and all(type(number) is int and number >= 0 for number in numbers):
                return Progress(of, *numbers)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
            logger.warning("%s: cannot be read, so samples are counted from none: %s", self._file, exc)
        return Progress(of)

    def _keep(self, progress: Progress) -> None:
        self._progress = progress
        if self._file is None:
            return
        half = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            half.write_text(json.dumps(asdict(progress)), encoding="ascii")
            half.replace(self._file)
        except OSError as exc:
            logger.warning("%s: the count of samples cannot be kept: %s", self._file, exc.strerror)
            self._file = None
