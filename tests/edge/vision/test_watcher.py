"""Which frames of a stream are decoded, and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.vision.frame import Frame
from edge.vision.picture import FrameFault
from edge.vision.process import Watcher
from edge.vision.stop import Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge.vision.picture import Grey
    from edge.vision.settings import Settings

T0_MS = 1_700_000_000_000
NOISE = np.random.default_rng(2)


@dataclass
class Counting:
    """A picture that counts how often it is decoded."""

    decoded: list[int] = field(default_factory=list)
    faulty: bool = False
    too_large: bool = False

    def grey(self) -> Grey:
        self.decoded.append(1)
        if self.faulty:
            raise FrameFault("a frame cannot be decoded")
        return NOISE.integers(0, 256, (48, 64), dtype=np.uint8)

    def jpeg(self, max_width: int) -> bytes:
        if self.too_large:
            raise MemoryError
        raise AssertionError(f"no clip was asked for, of {max_width} pixels")


def stream(fps: float, seconds: float, picture: Counting) -> Iterator[Frame]:
    for n in range(round(fps * seconds)):
        yield Frame(T0_MS + round(1000 * n / fps), n / fps, picture)


def lines(settings: Settings, frames: Iterator[Frame]) -> list[dict[str, Any]]:
    return [line for line in Watcher(settings, Stop()).lines(frames) if "values" in line]


def test_only_the_first_frame_of_each_interval_is_decoded(told: Callable[..., Settings]) -> None:
    picture = Counting()
    found = lines(told(cpu_percent=100), stream(50, 10, picture))
    assert len(picture.decoded) == 10
    assert [line["sampled_at_ms"] for line in found] == [T0_MS + 1000 * n for n in range(10)]
    assert all("brightness" in line["values"] for line in found)


def test_max_fps_bounds_what_is_looked_at_in_between(told: Callable[..., Settings]) -> None:
    picture = Counting()
    found = lines(told(cpu_percent=100, max_fps=5), stream(50, 10, picture))
    assert len(picture.decoded) == 50
    measured = [line for line in found if "brightness" in (line["values"] or {})]
    assert [line["sampled_at_ms"] for line in measured] == [T0_MS + 1000 * n for n in range(10)]
    assert all("motion" in line["values"] for line in measured[1:])


def test_a_measured_frame_stands_for_the_motion_of_those_before_it(told: Callable[..., Settings]) -> None:
    still, moving = np.full((48, 64), 90, np.uint8), np.full((48, 64), 90, np.uint8)
    moving[:12] = 250

    class Scene(Counting):
        def grey(self) -> Grey:
            self.decoded.append(1)
            # Somebody is there in the third of five frames alone.
            return moving if len(self.decoded) == 3 else still

    found = lines(told(cpu_percent=100, max_fps=5), stream(5, 1.2, Scene()))
    motion = {line["sampled_at_ms"] - T0_MS: line["values"].get("motion") for line in found}
    assert motion[1000] > 0.15


def test_a_faulty_frame_is_told_only_where_it_was_to_be_measured(told: Callable[..., Settings]) -> None:
    found = lines(told(cpu_percent=100, max_fps=5), stream(50, 3, Counting(faulty=True)))
    assert [(line["sampled_at_ms"] - T0_MS, line["values"]) for line in found] == [
        (0, None),
        (1000, None),
        (2000, None),
    ]


def test_a_frame_that_is_too_large_for_a_clip_is_measured_all_the_same(told: Callable[..., Settings]) -> None:
    settings = told(cpu_percent=100, max_fps=5, clips={"spacing_s": 0.05})
    found = lines(settings, stream(50, 3, Counting(too_large=True)))
    assert [line["sampled_at_ms"] - T0_MS for line in found if "brightness" in line["values"]] == [0, 1000, 2000]
    assert all(line["values"] is not None for line in found)
