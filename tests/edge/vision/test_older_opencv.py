"""Debian 12's OpenCV is 4.6, which 32-bit ARM has for want of a wheel: it lacks a name that ours has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[3]
PLAYS = """
import sys
import cv2
del cv2.CAP_PROP_N_THREADS
import edge.vision.video
from edge.vision.files import _video
from pathlib import Path
play, _ = _video(Path(sys.argv[1]))
print(*(picture.grey().shape for picture in play()))
"""


def test_a_video_plays_where_threads_cannot_be_counted(tmp_path: Path) -> None:
    path = tmp_path / "two.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (64, 48))
    for level in (0, 255):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    done = subprocess.run(
        [sys.executable, "-c", PLAYS, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(48, 64) (48, 64)", done.stderr
