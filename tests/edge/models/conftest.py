"""Models to serve: the small nets of this folder with manifests to fit, and an agent's part around them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.card import MANIFEST_FILE
from contract.config import parse_config
from contract.datatypes import DataType
from contract.manifest import VERSION
from edge.models import InferenceConfig, ModelConfig, Models
from edge.polling import Poll
from edge.reading import MetricInfo, Reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NETS = Path(__file__).parent / "nets"
Y = {"name": "y", "of": ["a"]}


def manifest_of(net: Path, *, length: int, inputs: list[Any], **more: Any) -> dict[str, Any]:
    """Inputs by name are features, too."""
    content = net.read_bytes()
    document = {
        "format": 1,
        "name": net.stem,
        "version": "1.0.0",
        "inputs": [each if isinstance(each, dict) else {"name": each} for each in inputs],
        "features": [{"name": name, "of": [name]} for name in inputs if isinstance(name, str)],
        "window": {"length": length, "step_s": 0.1, "max_bad_share": 0.5},
        "output": {"kind": "forecast", "targets": [Y], "horizons": list(range(1, 9)), "quantiles": [0.5]},
        "files": [
            {
                "form": "float32",
                "file": net.name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "size_bytes": len(content),
            }
        ],
    }
    return document | more


@pytest.fixture
def put_model() -> Callable[..., Path]:
    """Puts a net with a manifest into a directory, all at once, as an operator should: by renaming."""

    def put(directory: Path, net: str = "echo", **more: Any) -> Path:
        # `echo` tells its window as it is; the others take windows of 60 x 5 and tell nine numbers.
        shape = {"length": 4, "inputs": ["a", "b"]} if net in {"echo", "crashes", "remembers"} else NINE
        document = manifest_of(NETS / f"{net}.tflite", **shape | more)
        scratch = directory.with_name(f"{directory.name}.new")
        scratch.mkdir(parents=True)
        shutil.copy(NETS / f"{net}.tflite", scratch)
        (scratch / MANIFEST_FILE).write_text(json.dumps(document))
        if directory.exists():
            directory.rename(
                directory.with_name(f"{directory.name}.{hashlib.sha256(str(document).encode()).hexdigest()}")
            )
        scratch.rename(directory)
        return directory

    return put


NINE: dict[str, Any] = {
    "length": 60,
    "inputs": list("abcde"),
    "window": {"length": 60, "step_s": 0.02, "max_bad_share": 0.5},
    "output": {"kind": "forecast", "targets": [Y], "horizons": list(range(1, 10)), "quantiles": [0.5]},
}


class Desk:
    """An agent's part around models: a source `s` that is polled often, and what became of it."""

    def __init__(self, state_dir: Path, **inference: Any) -> None:
        self.polls: list[Poll] = []
        self.devices: dict[str, Any] = {}
        self.births = 0
        self.value = 1.0
        defaults = {"watch_s": 0.05, "timeout_s": 5}
        self.models = Models(
            InferenceConfig(**defaults | inference),
            state_dir,
            now_ms,
            intake=self,  # type: ignore[arg-type]  # as much of one as models need
            keep=self.polls.append,
            metrics_of=lambda source: [MetricInfo(name, DataType.FLOAT) for name in "abcde"] if source == "s" else None,
            births_changed=self.count_birth,
        )

    def open(self, device: Any) -> None:
        self.devices[device.name] = device

    def close(self, name: str) -> None:
        del self.devices[name]

    def count_birth(self) -> None:
        self.births += 1

    def feed(self) -> None:
        """A poll of `a`, which is `value`, and of the others, which are 0."""
        at_ms = now_ms()
        values = [self.value, 0.0, 0.0, 0.0, 0.0]
        readings = [Reading(name, DataType.FLOAT, value, at_ms) for name, value in zip("abcde", values, strict=True)]
        self.models.take(Poll("s", readings, at_ms, at_ms))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Desk]:
        async def feed() -> None:
            while True:
                self.feed()
                await asyncio.sleep(0.02)

        tasks = [asyncio.create_task(self.models.run()), asyncio.create_task(feed())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def results(self, name: str) -> list[Reading]:
        """One reading of each result, the version's."""
        return [
            reading
            for poll in self.polls
            if poll.source == name
            for reading in poll.readings
            if reading.metric == VERSION
        ]

    def of(self, name: str) -> Any:
        return self.models.report()["models"][name]  # type: ignore[index]  # a report is nested

    @property
    def process(self) -> Any:
        return self.models.report()["process"]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def serve(name: str, directory: Path, inputs: str | dict[str, str] = "ab", **more: Any) -> ModelConfig:
    mapped = inputs if isinstance(inputs, dict) else {each: f"s/{each}" for each in inputs}
    document = {"name": name, "directory": str(directory), "inputs": mapped}
    return parse_config(document | {"grace_s": 0.1} | more, ModelConfig, "c")


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Desk]:
    return lambda **inference: Desk(tmp_path / "state", **inference)


@pytest.fixture
def served() -> Callable[..., ModelConfig]:
    return serve
