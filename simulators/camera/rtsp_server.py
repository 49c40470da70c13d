"""An RTSP server of the frames that come through stdin; a program of its own, run by the system's Python.

Reads raw I420 frames. Says on stdout, one JSON object a line, first {"port": n} or {"error": why}, then
{"plays": true} when a client plays and {"plays": false} when the last one has gone. Ends when stdin does.
GStreamer's bindings are a system package, so nothing of Headwater is imported here.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from typing import Any, NoReturn


def say(message: dict[str, Any]) -> None:
    """One line to the simulator."""
    os.write(1, json.dumps(message).encode() + b"\n")


def fail(why: str) -> NoReturn:
    """Say why and end."""
    say({"error": why})
    sys.exit(1)


try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer
except (ImportError, ValueError) as missing:
    fail(f"GStreamer's Python bindings are missing ({missing})")

ELEMENTS = ("appsrc", "x264enc", "rtph264pay")


class FrameServer:
    """Frames from stdin, encoded once for all clients; without clients they are thrown away."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Take the size and the rate from the options."""
        self._frame_bytes = options.width * options.height * 3 // 2
        self._fps = options.fps
        self._caps = f"video/x-raw,format=I420,width={options.width},height={options.height},framerate={options.fps}/1"
        self._source: Any = None
        self._lock = threading.Lock()

    def factory(self) -> Any:  # noqa: ANN401 - GStreamer's bindings carry no types
        """What makes the pipeline when the first client comes."""
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(
            f"( appsrc name=frames is-live=true format=time do-timestamp=true max-bytes={4 * self._frame_bytes} "
            f"leaky-type=downstream caps={self._caps} "
            f"! x264enc tune=zerolatency speed-preset=ultrafast threads=1 bitrate=800 key-int-max={self._fps} "
            "! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=1 )"
        )
        factory.set_shared(True)
        factory.connect("media-configure", self._media_opened)
        return factory

    def _media_opened(self, _factory: Any, media: Any) -> None:  # noqa: ANN401 - as above
        with self._lock:
            self._source = media.get_element().get_child_by_name("frames")
        media.connect("unprepared", self._media_closed)
        say({"plays": True})

    def _media_closed(self, _media: Any) -> None:  # noqa: ANN401 - as above
        with self._lock:
            self._source = None
        say({"plays": False})

    def read_frames(self, ended: Any) -> None:  # noqa: ANN401 - as above
        """Pass frames on until stdin ends, then call `ended`."""
        while frame := read_exactly(self._frame_bytes):
            with self._lock:
                if self._source is not None:
                    self._source.emit("push-buffer", Gst.Buffer.new_wrapped(frame))
        ended()


def read_exactly(size: int) -> bytes:
    """The next bytes of stdin, none at its end; unbuffered, since a lock held at exit would abort the program."""
    found = bytearray()
    while len(found) < size:
        part = os.read(0, size - len(found))
        if not part:
            return b""
        found += part
    return bytes(found)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="RTSP server of raw frames from stdin.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=0, help="TCP port, 0 for a free one")
    parser.add_argument("--path", default="/stream", help="path of the stream in its URL")
    parser.add_argument("--width", type=int, required=True, help="pixels, a multiple of 8")
    parser.add_argument("--height", type=int, required=True, help="pixels, even")
    parser.add_argument("--fps", type=int, required=True, help="frames a second")
    return parser.parse_args()


def main() -> None:
    """Serve until stdin ends or a signal comes."""
    options = parse_options()
    Gst.init(None)
    absent = [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]
    if absent:
        fail(f"GStreamer's elements {', '.join(absent)} are missing")
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, loop.quit)
    frames = FrameServer(options)
    server = GstRtspServer.RTSPServer()
    server.set_address(options.host)
    server.set_service(str(options.port))
    server.get_mount_points().add_factory(options.path, frames.factory())
    if server.attach(None) == 0:
        fail(f"cannot listen at {options.host}:{options.port}")
    # What clients leave behind when they vanish is cleared by time-out.
    GLib.timeout_add_seconds(5, lambda: server.get_session_pool().cleanup() >= 0)
    say({"port": server.get_bound_port()})
    threading.Thread(target=frames.read_frames, args=(loop.quit,), daemon=True, name="stdin").start()
    loop.run()


if __name__ == "__main__":
    main()
