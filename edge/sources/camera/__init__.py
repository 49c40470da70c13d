"""A camera, watched by a process of its own that can be killed: light, motion, tampering, and clips where asked for.

The first frame of every slot of `interval_s` is measured. The time of its readings is the camera's own, where
the stream carries one (X-Timestamp), else that of its arrival. What the process does stands in `edge/vision`.
"""

from edge.sources.camera.config import CameraConfig
from edge.sources.camera.source import CameraSource

__all__ = ["CameraConfig", "CameraSource"]
