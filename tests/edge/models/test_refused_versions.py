"""A version that is no good, put in the place of one that is served: each is refused, with its reason."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Y = {"name": "y", "of": ["a"]}
KERAS = {"form": "float32", "file": "model.keras", "sha256": "0" * 64, "size_bytes": 1, "runtime": "tensorflow"}
SPOILT: dict[str, dict[str, Any]] = {
    "hungry": {"net": "eats-memory"},
    "crashing": {
        "net": "crashes",
        "inputs": list("abcde"),
        "output": {"kind": "forecast", "targets": [Y], "horizons": [1], "quantiles": [0.5]},
    },
    "lying": {"window": {"length": 59, "step_s": 0.02}},
    "unmapped": {"version": "2.0.0", "inputs": list("abcdef")},
    "newer": {"format": 2},
    "for the cloud": {"files": [KERAS]},
    "of a market": {"window": {"length": 60, "step_s": 0.02, "steps": "present"}},
    "wrong of itself": {"features": [{"name": "a", "transform": "log_ratio", "of": ["a"]}]},
}


def put_spoilt(directory: Path, how: str, put_model: Callable[..., Path]) -> None:
    match how:
        case "cut":
            put_model(directory.with_name("cut"), "steady", version="2.0.0")
            (directory.with_name("cut") / "steady.tflite").write_bytes(b"x" * 1000)
            directory.rename(directory.with_name("old"))
            directory.with_name("cut").rename(directory)
        case "garbled":
            (directory / "manifest.json").write_text("{")
        case _:
            put_model(directory, **{"net": "steady"} | SPOILT[how])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("hungry", "eats-memory.tflite"),
        # LiteRT looks at the whole file first.
        ("crashing", "it ended the process: SIG" if sys.version_info < (3, 12) else "not a valid Flatbuffer"),
        ("lying", "takes 1 x 60 x 5, the manifest says 1 x 59 x 5"),
        ("cut", "has 1000 bytes, the manifest says"),
        ("unmapped", "inputs says nothing of f, which steady 2.0.0 needs"),
        ("garbled", "manifest.json: is not JSON"),
        ("newer", "manifest.json: format: found 2, allowed: 1: it is written for another version of the agent"),
        ("for the cloud", "steady 1.0.0 has no file of runtime tflite"),
        ("of a market", "steady 1.0.0 has window.steps: present"),
        ("wrong of itself", "features.0: found"),
    ],
)
def test_a_version_that_is_no_good_is_refused_and_the_one_before_goes_on(  # noqa: PLR0913, PLR0917 - fixtures
    how: str, said: str, desk: Any, served: Any, put_model: Callable[..., Path], tmp_path: Path, eventually: Any
) -> None:
    agent = desk(max_memory_mb=64)
    agent.models.change([served("m", put_model(tmp_path / "m", "steady"), "abcde", every_s=0.3)])

    async def run() -> None:
        async with agent.running():
            await eventually(lambda: agent.results("m"), "results")
            pid = agent.process["pid"]
            put_spoilt(tmp_path / "m", how, put_model)
            await eventually(lambda: agent.of("m")["refused"], "the refusal")
            assert said in agent.of("m")["refused"]
            count = len(agent.results("m"))
            await eventually(lambda: len(agent.results("m")) >= count + 3, "results all the same")
            assert agent.process["pid"] == pid

    asyncio.run(run())
    assert {reading.value for reading in agent.results("m")} == {"1.0.0"}
    assert agent.of("m")["skipped"] == 0
    assert agent.of("m")["state"] == "ok"
