"""The camera's own process: reads frames, looks at those of its slots, tells.

Its first line of stdin is `Settings` as JSON. After it an empty line asks for a frame of a file played on demand,
{"scene": ...} gives the trained model to go by (null: none), and {"learnt": true} says that there are enough samples.
End of file there, or SIGTERM, stops it. It writes one JSON line to stdout for each thing that happens: {"ready": true},
{"fault": text}, {"end": true} for a recording that was played, {"shot": ...} for a frame of a clip, {"sample": ...} for
a picture to learn from, {"scene": ...} for how its model fares, {"counts": ...}, or what was seen in a frame, whose
"values" are null where it could not be used. It never outlives the agent, and the agent may kill it at any time.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import threading
import time
from dataclasses import asdict
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import cv2

from edge.modesty import die_with, stand_back
from edge.vision.analysis import Analysis, Elapsed
from edge.vision.clip import Recorder
from edge.vision.files import file_frames
from edge.vision.http import mjpeg_frames
from edge.vision.mjpeg import StreamFault
from edge.vision.pace import Pace
from edge.vision.picture import FrameFault
from edge.vision.settings import Settings
from edge.vision.slots import Slots
from edge.vision.stop import Stop
from edge.vision.trained import ModelFault, TrainedScene
from edge.vision.video import device_frames, stream_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.vision.clip import Shot
    from edge.vision.frame import Frame

    Line: TypeAlias = dict[str, object]

# What a picture needs beyond our bound on memory costs that picture alone.
_UNUSABLE: Final = (FrameFault, MemoryError, cv2.error)
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 3.0
_FAULT_CHARACTERS: Final = 300
_COUNT_EVERY_S: Final = 5.0


class Watcher:
    """Looks at the frames of one connection after another, and makes the lines that tell of them."""

    def __init__(self, settings: Settings, stop: Stop, orders: SimpleQueue[Line] | None = None) -> None:
        self._settings = settings
        self._stop = stop
        self._orders = orders or SimpleQueue()
        self._model_key: str | None = None
        self._model_told: tuple[str | None, str | None] = (None, None)
        self._pace = Pace(settings.cpu_share)
        self._analysis = Analysis(settings)
        self._elapsed = Elapsed()
        self._recorder = Recorder(settings.clips) if settings.clips else None
        self._counts = {"frames": 0, "looked_at": 0, "left_out": 0}
        self._counted_s = time.monotonic()

    def lines(self, frames: Iterator[Frame]) -> Iterator[Line]:
        """What is told of the frames of one connection."""
        kept, looked = Slots(self._settings.interval_s), Slots(1 / self._settings.max_fps)
        for frame in frames:
            self._counts["frames"] += 1
            if self._pace.is_overdrawn():
                self._counts["left_out"] += 1
                self._stop.wait(self._pace.pause_s)
            else:
                time_ms = frame.slot_time_ms
                is_kept, is_looked_at = kept.takes(time_ms), looked.takes(time_ms)
                is_kept = is_kept or self._settings.on_demand
                if is_kept or is_looked_at:
                    yield from self._seen(frame, is_kept=is_kept)
            if time.monotonic() - self._counted_s >= _COUNT_EVERY_S:
                yield self._counted()

    def _seen(self, frame: Frame, *, is_kept: bool) -> Iterator[Line]:
        self._counts["looked_at"] += 1
        yield from self._obey()
        line: Line = {"sampled_at_ms": frame.sampled_at_ms, "arrived_s": frame.arrived_s}
        at_s = self._elapsed.at(frame.slot_time_ms)
        utc_s = time.time() if frame.sampled_at_ms is None else frame.sampled_at_ms / 1000
        try:
            grey = frame.picture.grey()
            values = self._analysis.look(grey, at_s, is_kept=is_kept, utc_s=utc_s)
        except _UNUSABLE as exc:
            if is_kept:
                yield line | {"values": None, "reason": str(exc) or "it needs too much memory"}
            return
        yield line | {"values": values}
        yield from self._of_model()
        if self._analysis.sampler is not None and (jpeg := self._analysis.sampler.look(grey, at_s, utc_s)) is not None:
            yield {"sample": {"taken": asdict(frame.taken), "jpeg": base64.b64encode(jpeg).decode()}}
        if self._recorder is not None and self._settings.clips is not None:
            yield from self._shots(frame, at_s, self._recorder, self._settings.clips.max_width)

    def _shots(self, frame: Frame, at_s: float, recorder: Recorder, max_width: int) -> Iterator[Line]:
        try:
            jpeg = partial(frame.picture.jpeg, max_width)
            yield from map(_told, recorder.look(at_s, frame.taken, jpeg, self._analysis.incidents))
        except _UNUSABLE:
            recorder.left_out += 1

    def _obey(self) -> Iterator[Line]:
        """Does what the agent has ordered since the frame before."""
        while not self._orders.empty():
            match self._orders.get():
                case {"learnt": True} if self._analysis.sampler is not None:
                    self._analysis.sampler.is_over = True
                case {"scene": None}:
                    self._analysis.scene.use(None)
                    self._model_key = None
                case {"scene": dict(document)}:
                    yield from self._load(document)

    def _load(self, document: dict[str, Any]) -> Iterator[Line]:
        self._model_key, self._model_told = document["key"], (None, None)
        try:
            self._analysis.scene.use(TrainedScene.load(document))
        except ModelFault as exc:
            self._analysis.scene.use(None)
            yield {"scene": {"key": self._model_key, "state": "refused", "reason": str(exc)}}

    def _of_model(self) -> Iterator[Line]:
        """How the trained model fares, where that has changed; and each time that it fails."""
        scene = self._analysis.scene
        told = (scene.state, scene.fault)
        if scene.state is not None and (scene.fault or told != self._model_told):
            self._model_told = told
            yield {"scene": {"key": self._model_key, "state": scene.state, "reason": scene.fault}}

    def _counted(self) -> Line:
        self._counted_s = time.monotonic()
        clip_frames = {"clip_frames_left_out": self._recorder.left_out} if self._recorder else {}
        return {"counts": self._counts | clip_frames}


def _told(shot: Shot) -> Line:
    return {"shot": asdict(shot) | {"jpeg": base64.b64encode(shot.jpeg).decode()}}


def watch(settings: Settings, stop: Stop, tell: Callable[[Line], None], orders: SimpleQueue[Line]) -> None:
    """Watch the camera until stopped, over and over where it fails."""
    watcher, pause_s = Watcher(settings, stop, orders), _FIRST_PAUSE_S
    while not stop.requested:
        try:
            for line in watcher.lines(_opened(settings, stop)):
                tell(line)
                pause_s = _FIRST_PAUSE_S
        except StreamFault as exc:
            if not stop.requested:
                # What a server says of itself is as long as it likes.
                tell({"fault": str(exc)[:_FAULT_CHARACTERS]})
        else:
            if settings.file is not None and not stop.requested:
                tell({"end": True})
                return
        stop.wait(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _opened(settings: Settings, stop: Stop) -> Iterator[Frame]:
    if settings.file is not None:
        return file_frames(settings, stop)
    if settings.device is not None:
        return device_frames(settings, stop)
    assert settings.url is not None
    return (mjpeg_frames if settings.url.startswith("http") else stream_frames)(settings, stop)


def main() -> None:
    """Watch as stdin says."""
    # Ctrl-C goes to the whole group of processes: the agent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = Settings.from_json(sys.stdin.buffer.readline())
    die_with(settings.parent_pid)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.request)

    orders: SimpleQueue[Line] = SimpleQueue()

    def heed_stdin() -> None:
        while line := sys.stdin.buffer.readline():
            if line.strip():
                orders.put(json.loads(line))
            else:
                stop.want_frame()
        stop.request()

    heeding = threading.Thread(target=heed_stdin, name="stdin", daemon=True)
    heeding.start()
    cv2.setNumThreads(1)
    stand_back(settings.nice, settings.data_bytes)

    def tell(line: Line) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    tell({"ready": True})
    watch(settings, stop, tell, orders)
    # A recording that was played: the agent says when to go.
    heeding.join()


if __name__ == "__main__":
    main()
