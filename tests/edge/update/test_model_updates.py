"""Models as updates: tried before they are served, served after that, or put back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.datatypes import DataType
from contract.update_news import UpdateState
from edge.errors import NotNowError, RolledBackError, UpdateError
from edge.models import InferenceConfig, ModelConfig, Models
from edge.reading import MetricInfo
from edge.update.config import UpdateConfig
from edge.update.kinds import CONFIRMED
from edge.update.model_kind import ModelKind
from edge.update.model_link import ModelLink
from edge.update.probe import Condition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NETS = Path(__file__).parents[1] / "models" / "nets"


def files(version: str, net: str = "echo", **more: Any) -> dict[str, bytes | str]:
    content = (NETS / f"{net}.tflite").read_bytes()
    manifest = {
        "format": 1,
        "name": net,
        "version": version,
        "inputs": [{"name": "a"}, {"name": "b"}],
        "features": [{"name": name, "of": [name]} for name in "ab"],
        "window": {"length": 4, "step_s": 0.1, "max_bad_share": 0.5},
        "output": {
            "kind": "forecast",
            "targets": [{"name": "y", "of": ["a"]}],
            "horizons": list(range(1, 9)),
            "quantiles": [0.5],
        },
        "files": [
            {
                "form": "float32",
                "file": f"{net}.tflite",
                "sha256": hashlib.sha256(content).hexdigest(),
                "size_bytes": len(content),
            }
        ],
    }
    return {"manifest.json": json.dumps(manifest | more), f"{net}.tflite": content}


@dataclass
class Host:
    """An agent as far as models go."""

    config: Any
    models: Models
    condition: Condition = field(default_factory=lambda: Condition(connected=True, marks=0, sources={}))

    async def reload(self) -> str | None:
        return None

    def restart(self) -> None:
        raise AssertionError("a model needs no restart")

    async def room_bytes(self) -> int:
        return 1 << 30


@dataclass(frozen=True)
class Configured:
    models: tuple[ModelConfig, ...]
    state_dir: Path


class Desk:
    """Where a model is served, and updated."""

    def __init__(self, directory: Path, operator: Any, pack_files: Any) -> None:
        self.directory = directory / "served"
        self._operator = operator
        self._pack_files = pack_files
        self._archive = directory / "archive"
        config = ModelConfig(name="m", directory=self.directory, inputs={"a": "s/a", "b": "s/b"})
        self.models = Models(
            InferenceConfig(watch_s=0.05),
            directory / "state",
            lambda: time.time_ns() // 1_000_000,
            intake=_Silence(),  # type: ignore[arg-type]  # as much of one as this needs
            keep=lambda _poll: None,
            metrics_of=lambda _source: [MetricInfo(name, DataType.FLOAT) for name in "ab"],
            births_changed=lambda: None,
        )
        self.models.change([config])
        host = Host(Configured((config,), directory), self.models)
        self.kind = ModelKind(host, UpdateConfig(confirm_s=60), directory / "updates")
        self.tried = 0

    async def apply(self, found: dict[str, bytes | str], version: str = "2.0.0") -> Any:
        content, unpacked = self._pack_files(found)
        self._archive.write_bytes(content)
        desired = self._operator.desire(content, kind="model", name="m", version=version, unpacked_bytes=unpacked)
        outcome = await self.kind.apply(self._operator.accepted(desired), self._archive, self._count)
        await self.kind.settled("m")
        return outcome

    def _count(self) -> None:
        self.tried += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Desk]:
        serving = asyncio.create_task(self.models.run())
        try:
            yield self
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


class _Silence:
    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_: None


@pytest.fixture
def desk(tmp_path: Path, operator_key: Any, pack_files: Any) -> Callable[[], Desk]:
    return lambda: Desk(tmp_path, operator_key, pack_files)


def test_one_after_another_is_served_and_those_of_before_are_deleted(desk: Callable[[], Desk], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with desk().running() as at:
            assert await at.apply(files("2.0.0")) == CONFIRMED
            assert at.kind.running("m", None) == "2.0.0"
            assert await at.apply(files("3.0.0"), "3.0.0") == CONFIRMED
            assert at.kind.running("m", None) == "3.0.0"
            assert at.tried == 2
            assert at.directory.is_symlink()

    asyncio.run(scenario())
    assert len(list((tmp_path / "updates" / "m").iterdir())) == 1


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (files("2.0.0") | {"echo.tflite": b"x" * len(files("2.0.0")["echo.tflite"])}, "it fails its trial: "),
        (files("2.0.0", "crashes"), "it fails its trial: "),
        (files("2.0.0", inputs=[{"name": "a"}, {"name": "c"}]), "it fails its trial: "),
        (files("2.0.1"), "its archive is of version 2.0.1"),
    ],
)
def test_what_fails_its_trial_is_never_served(
    desk: Callable[[], Desk], found: dict[str, bytes | str], why: str
) -> None:
    async def scenario() -> None:
        async with desk().running() as at:
            await at.apply(files("1.0.0"), "1.0.0")
            with pytest.raises(UpdateError, match=why):
                await at.apply(found)
            assert at.tried == 1
            assert at.kind.running("m", None) == "1.0.0"

    asyncio.run(scenario())


def test_what_is_not_served_in_time_is_put_back(desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with desk().running() as at:
            await at.apply(files("1.0.0"), "1.0.0")
            monkeypatch.setattr(at.kind, "_config", UpdateConfig(confirm_s=1))
            # Only what its own trial has found good is offered here, so the serving is stopped instead.
            at.models._admission.look = _nothing  # type: ignore[method-assign]  # in a test alone
            with pytest.raises(RolledBackError, match="it is not served within 1 s"):
                await at.apply(files("2.0.0"))
            assert "1.0.0" in str(at.directory.resolve())

    asyncio.run(scenario())


async def _nothing(_served: object) -> None:
    """Looks at nothing."""


def test_where_the_link_cannot_be_set_what_was_before_is_put_back(
    desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with desk().running() as at:
            await at.apply(files("1.0.0"), "1.0.0")
            with monkeypatch.context() as patch:
                patch.setattr(ModelLink, "go_on", _full)
                with pytest.raises(NotNowError, match="No space left on device"):
                    await at.apply(files("2.0.0"))
            assert "1.0.0" in str(at.directory.resolve())
            assert at.kind.running("m", None) == "1.0.0"
            assert await at.apply(files("2.0.0")) == CONFIRMED

    asyncio.run(scenario())


def test_a_disk_that_is_full_when_it_is_to_be_tried_is_waited_for(
    desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def scenario() -> None:
        async with desk().running() as at:
            with monkeypatch.context() as patch:
                patch.setattr("edge.update.model_link.replace_file", full)
                with pytest.raises(NotNowError, match="No space left on device"):
                    await at.apply(files("1.0.0"), "1.0.0")
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "create_subprocess_exec", full)
                with pytest.raises(NotNowError, match=r"it fails its trial: .*cannot be started"):
                    await at.apply(files("1.0.0"), "1.0.0")
            assert await at.apply(files("1.0.0"), "1.0.0") == CONFIRMED

    asyncio.run(scenario())


def _full(*_: object) -> None:
    raise NotNowError("m: cannot be made a link: No space left on device")


def test_a_run_that_was_cut_off_is_settled_by_the_next(
    desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def settle() -> None:
        async with desk().running() as at:
            with monkeypatch.context() as patch:
                patch.setattr(ModelLink, "trial", _beside_the_loop(ModelLink.trial))
                outcome = await at.kind.settle("m", None)
                assert outcome is not None
                assert outcome.state is UpdateState.CONFIRMED
                await at.kind.settled("m")
                assert await at.kind.settle("m", None) is None
            assert at.kind.running("m", None) == "2.0.0"

    async def cut_off() -> None:
        async with desk().running() as at:
            await _cut_off(at, monkeypatch)

    asyncio.run(cut_off())
    asyncio.run(settle())


async def _cut_off(at: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the run in the middle of an update, when its trial has begun."""
    with monkeypatch.context() as patch:
        patch.setattr(at.kind, "_served", _cut)
        with pytest.raises(asyncio.CancelledError):
            await at.apply(files("2.0.0"))


def _beside_the_loop(step: Callable[[ModelLink], Any]) -> Callable[[ModelLink], Any]:
    def checked(link: ModelLink) -> Any:
        assert threading.current_thread() is not threading.main_thread(), "a disk that hangs would hold up the loop"
        return step(link)

    return checked


async def _cut(*_: object) -> str | None:
    raise asyncio.CancelledError


def test_what_was_put_there_by_hand_before_a_restart_ends_the_trial(
    desk: Callable[[], Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off() -> None:
        async with desk().running() as at:
            await _cut_off(at, monkeypatch)
            at.directory.unlink()
            at.directory.mkdir()

    async def settle() -> None:
        kind = desk().kind
        outcome = await kind.settle("m", None)
        assert outcome is not None
        assert outcome.state is UpdateState.ROLLED_BACK
        assert "was replaced by hand meanwhile" in str(outcome.reason)
        assert await kind.settle("m", None) is None

    asyncio.run(cut_off())
    asyncio.run(settle())
    assert not desk().directory.is_symlink()
