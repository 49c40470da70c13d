"""A camera through the whole agent: what arrives at the broker, and what the health page shows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from contract.clips import CLIP, ClipFrame
from contract.topics import MessageType
from stack import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from contract.sparkplug import Metric

YARD = {"name": "yard", "polygon": [[0, 0.68], [1, 0.68], [1, 1], [0, 1]], "min_fraction": 0.01}
ROAD = [[0, 0], [1, 0], [1, 0.66], [0, 0.66]]
GROUP = "camera-agent"


def received(bridge: Any, metric: str) -> list[Metric]:
    return [
        found
        for message in bridge.of_type(MessageType.DDATA)
        for found in message.payload.metrics
        if found.name == metric
    ]


def test_clips_and_alarms_arrive_and_a_camera_that_goes_is_lost(
    mosquitto: Any, new_bridge: Any, simulated_camera: Any, wait_for: Any, tmp_path: Path
) -> None:
    camera, bridge, health = simulated_camera(fps=10), new_bridge(mosquitto.port, GROUP), free_port()
    gate = {
        "type": "camera",
        "name": "gate",
        "interval_s": 0.2,
        "max_fps": 5,
        "url": camera.addresses["mjpeg"],
        "zones": [YARD],
        "masks": [ROAD],
        "motion": {"min_s": 0.2, "clear_s": 20},
        "lost_after_s": 1.5,
        "clips": {"triggers": ["motion"], "during": 2, "after": 0, "spacing_s": 0.2, "max_width": 160},
    }
    document = {
        "group": GROUP,
        "node": "edge-1",
        "state_dir": str(tmp_path / "state"),
        "clock": {"wait_s": 0},
        "mqtt": {"host": "127.0.0.1", "port": mosquitto.port},
        "health": {"port": health},
        "sources": [gate],
    }
    path = tmp_path / "edge.yaml"
    path.write_text(yaml.safe_dump(document))
    with subprocess.Popen([sys.executable, "-m", "edge", "run", str(path)], stderr=subprocess.PIPE) as agent:
        try:
            wait_for(lambda: len(received(bridge, "brightness")) >= 4, "readings")
            (birth, *_) = bridge.of_type(MessageType.DBIRTH)
            assert CLIP in {metric.name for metric in birth.payload.metrics}
            assert [metric.value for metric in received(bridge, "tamper")] == ["none"]
            httpx.post(f"{camera.addresses['url']}/incidents?kind=intrusion&duration_s=20")
            wait_for(lambda: len(frames := frames_in(bridge)) > 0 and len(frames) == frames[0].frames, "a clip")
            frames = frames_in(bridge)
            assert [frame.frame_no for frame in frames] == list(range(1, len(frames) + 1))
            assert {frame.event_id for frame in frames} == {frames[0].event_id}
            assert len(frames) >= 3, "from before and from during"
            assert all(len(message.payload.metrics) == 1 for message in images(bridge))
            page = httpx.get(f"http://127.0.0.1:{health}/healthz").json()["sources"]["gate"]
            assert page["state"] == "ok"
            assert page["details"]["memory_mb"] > 20
            assert "JFIF" not in json.dumps(page)
            camera.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: received(bridge, "tamper")[-1].value == "lost", "the loss")
            camera.process.send_signal(signal.SIGCONT)
            wait_for(lambda: received(bridge, "tamper")[-1].value == "none", "the return")
        finally:
            agent.send_signal(signal.SIGTERM)
            _, log = agent.communicate(timeout=30)
    assert agent.returncode == 0, log.decode()
    assert "Traceback" not in log.decode()


def frames_in(bridge: Any) -> list[ClipFrame]:
    return [ClipFrame.from_metric(metric) for metric in received(bridge, CLIP)]


def images(bridge: Any) -> list[Any]:
    return [
        message
        for message in bridge.of_type(MessageType.DDATA)
        if any(metric.name == CLIP for metric in message.payload.metrics)
    ]
