"""The models' own process: loads them and runs windows, one request after another.

Frames come on stdin and go out on stdout (`edge.inference.frames`):

    {"parent_pid", "max_memory_mb", "nice"}, once    {"runtime"}
    {"load": settings}                               {"form", "us"} or {"refused": reason}
    {"run": key, "end_ms"} + values and states       {"us"} + result, {"no_window": reason} or {"failed": reason}
    {"drop": key}                                    nothing

It ends with its stdin, never outlives the agent, and the agent may kill it at any time.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from edge.inference.arithmetic import NoWindowError
from edge.inference.frames import encode_frame, read_frame
from edge.inference.loading import LoadedModel, load
from edge.inference.runtime import NetError, runtime_name
from edge.inference.scene import load_scene
from edge.inference.settings import ModelSettings, SceneSettings
from edge.modesty import die_with, stand_back

if TYPE_CHECKING:
    Reply = tuple[dict[str, Any], bytes]


class Server:
    """Answers requests by the models it has loaded."""

    def __init__(self) -> None:
        self._loaded: dict[str, LoadedModel] = {}

    def answer(self, head: dict[str, Any], body: bytes) -> Reply | None:
        """The answer to a request, None where none is due."""
        match head:
            case {"load": {"side": _} as document}:
                return _tried(SceneSettings.from_document(document))
            case {"load": document}:
                return self._load(ModelSettings.from_document(document))
            case {"run": key, "end_ms": end_ms}:
                return self._run(self._loaded[key], end_ms, body)
            case {"drop": key}:
                self._loaded.pop(key, None)
        return None

    def _load(self, settings: ModelSettings) -> Reply:
        try:
            loaded = load(settings)
        except NetError as exc:
            return {"refused": str(exc)}, b""
        self._loaded[settings.key] = loaded
        return {"form": loaded.form, "us": loaded.us}, b""

    @staticmethod
    def _run(loaded: LoadedModel, end_ms: int, body: bytes) -> Reply:
        shape = len(loaded.settings.inputs), loaded.settings.rows
        cells = shape[0] * shape[1]
        values = np.frombuffer(body, np.float64, cells).reshape(shape)
        states = np.frombuffer(body, np.uint8, cells, values.nbytes).reshape(shape)
        before_ns = time.perf_counter_ns()
        try:
            result = loaded.run(values, states, end_ms)
        except NoWindowError as exc:
            return {"no_window": str(exc)}, b""
        except NetError as exc:
            return {"failed": str(exc)}, b""
        return {"us": (time.perf_counter_ns() - before_ns) / 1000}, result.tobytes()


def _tried(settings: SceneSettings) -> Reply:
    """A camera's model is run in the camera's own process; here it is only tried."""
    try:
        loaded = load_scene(settings)
    except NetError as exc:
        return {"refused": str(exc)}, b""
    return {"form": loaded.form, "us": loaded.us}, b""


def main() -> None:
    """Serve until stdin ends."""
    # Ctrl-C goes to the whole group of processes: the agent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = sys.stdin.buffer, _replies()
    first = read_frame(requests)
    if first is None:
        return
    begin, _ = first
    die_with(begin["parent_pid"])
    stand_back(begin["nice"], begin["max_memory_mb"] << 20)
    replies.write(encode_frame({"runtime": runtime_name()}))
    replies.flush()
    server = Server()
    while (request := read_frame(requests)) is not None:
        if (reply := server.answer(*request)) is not None:
            replies.write(encode_frame(*reply))
            replies.flush()


def _replies() -> BinaryIO:
    """Stdout to ourselves: what libraries print there goes to stderr."""
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return os.fdopen(own, "wb")


if __name__ == "__main__":
    main()
