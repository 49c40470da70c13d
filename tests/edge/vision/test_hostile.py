"""Pictures that no camera makes, and a malicious one may send."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from edge.vision.analysis import Analysis
from edge.vision.frame import PacketPicture
from edge.vision.picture import FrameFault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge.vision.picture import Grey
    from edge.vision.settings import Settings


def looked_at(frames: list[Grey], settings: Settings) -> None:
    analysis = Analysis(settings)
    for n, grey in enumerate(frames):
        values = analysis.look(grey, float(n), is_kept=True).values()
        assert all(math.isfinite(value) for value in values if isinstance(value, float))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (160, 1), (1, 500), (500, 1), (2, 320), (3, 3), (2000, 2)])
@pytest.mark.parametrize("masks", [0, 1], ids=["open", "fully masked"])
def test_a_picture_of_any_shape_is_judged(shape: tuple[int, int], masks: int, told: Callable[..., Settings]) -> None:
    everything = [[0, 0], [1, 0], [1, 1], [0, 1]]
    zones = [{"name": "line", "polygon": [[0, 0], [0, 0], [0, 0]]}]
    settings = told(clips={"triggers": ["motion", "tamper", "scene"]}, zones=zones, masks=[everything] * masks)
    first = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    # Rolled on now and then, which looks moved.
    looked_at([np.roll(first, n // 8) for n in range(40)], settings)
    looked_at([np.full(shape, n % 3 * 100, np.uint8) for n in range(12)], settings)


def test_pictures_that_change_their_shape_are_judged(told: Callable[..., Settings]) -> None:
    rng = np.random.default_rng(2)
    shapes = [(1, 1), (48, 64), (500, 1), (48, 64), (64, 48), (2, 320)] * 4
    looked_at([rng.integers(0, 256, shape, np.uint8) for shape in shapes], told())


def test_a_key_frame_that_is_a_playlist_opens_no_file_of_this_machine(tmp_path: Path) -> None:
    secret = tmp_path / "secret.avi"
    writer = cv2.VideoWriter(str(secret), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), 77, np.uint8))
    writer.release()
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{secret}\n#EXT-X-ENDLIST\n".encode()
    for packet in (playlist, f"ffconcat version 1.0\nfile {secret}\n".encode(), secret.read_bytes(), b""):
        with pytest.raises(FrameFault):
            PacketPicture(packet).grey()


def test_a_key_frame_that_is_a_jpeg_is_decoded() -> None:
    jpeg = bytes(cv2.imencode(".jpg", np.full((48, 64), 77, np.uint8))[1])
    assert PacketPicture(jpeg).grey().mean() == pytest.approx(77, abs=1)
