"""The camera's process as the agent sees it: how it is started, what it is told, what it takes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.errors import SourceError
from edge.process import start_process
from edge.sources.secret import needed_by
from edge.vision.settings import AreaSettings, ClipSettings, MotionSettings, Settings, TamperSettings

if TYPE_CHECKING:
    import asyncio

    from edge.sources.camera.config import CameraConfig, ClipsConfig

_LINE_BYTES: Final = 64 * 1024
_ENVIRONMENT: Final = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "rtsp_transport;tcp",  # UDP loses packets without a word
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_LOG_LEVEL": "OFF",
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 26),  # a small JPEG can announce a giant image
}
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_SHARE_OVER_S: Final = 5.0  # the kernel counts in ticks of 10 ms


async def start(config: CameraConfig) -> asyncio.subprocess.Process:
    """The process, told what to watch; raises SourceError."""
    with needed_by(config.name):
        password = config.password()
    # A line can hold a frame of a clip, in base64.
    line_bytes = _LINE_BYTES + (2 * config.clips.max_frame_bytes if config.clips else 0)
    try:
        process = await start_process("edge.vision.process", _ENVIRONMENT, line_bytes)
    except OSError as exc:
        raise SourceError(f"camera {config.origin}: its process cannot be started: {exc}") from exc
    assert process.stdin is not None
    # Through the pipe: a command line can be read by every user of the machine.
    process.stdin.write(settings_of(config, password).to_json())
    return process


def settings_of(config: CameraConfig, password: str | None) -> Settings:
    """What the process is told."""
    return Settings(
        url=config.url,
        device=None if config.device is None else str(config.device),
        # Its working directory is another.
        file=None if config.file is None else str(config.file.absolute()),
        username=config.username,
        password=password,
        loop=config.loop,
        on_demand=config.playback == "polled",
        keyframes_only=config.keyframes_only,
        file_fps=config.file_fps,
        interval_s=config.interval_s,
        max_fps=config.max_fps or 1 / config.interval_s,
        lost_after_s=config.patience_s,
        max_frame_bytes=config.max_frame_bytes,
        data_bytes=config.max_memory_mb << 20,
        cpu_share=config.cpu_percent / 100,
        nice=config.nice,
        parent_pid=os.getpid(),
        motion=_motion_settings(config),
        tamper=TamperSettings(**config.tamper.model_dump()),
        clips=None if config.clips is None else _clip_settings(config.clips),
        learn=None if config.learning is None else config.learning.settings,
    )


def _motion_settings(config: CameraConfig) -> MotionSettings:
    motion = config.motion
    areas = {"": AreaSettings(None, motion.min_fraction, motion.min_s, motion.clear_s)}
    for zone in config.zones:
        areas[zone.name] = AreaSettings(
            zone.polygon,
            motion.min_fraction if zone.min_fraction is None else zone.min_fraction,
            motion.min_s if zone.min_s is None else zone.min_s,
            motion.clear_s if zone.clear_s is None else zone.clear_s,
        )
    return MotionSettings(areas, config.masks, motion.min_change)


def _clip_settings(clips: ClipsConfig) -> ClipSettings:
    return ClipSettings(**clips.model_dump(exclude={"max_hour_bytes"}))  # that is the agent's own to hold


class Usage:
    """What a process takes, by /proc; all 0 where there is none, as on another system."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self._at_s = time.monotonic()
        self._used_s = 0.0
        self.memory_mb = 0.0
        self.cpu_percent = 0.0

    def measure(self) -> None:
        """Look again; the processor's share is that of five seconds."""
        try:
            resident_pages = int((self._proc / "statm").read_text(encoding="ascii").split()[1])
            fields = (self._proc / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (OSError, IndexError, ValueError):
            return
        now_s, used_s = time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        self.memory_mb = resident_pages * _PAGE_BYTES / (1 << 20)
        if now_s - self._at_s >= _SHARE_OVER_S:
            self.cpu_percent = 100 * (used_s - self._used_s) / (now_s - self._at_s)
            self._at_s, self._used_s = now_s, used_s
