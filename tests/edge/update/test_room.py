"""Room for what is unpacked: the readings' spool comes first, where it is on the same disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.errors import NotNowError
from edge.update.agent_kind import AgentKind
from edge.update.config import UpdateConfig
from edge.update.model_kind import ModelKind
from edge.update.room import check_room, free_bytes
from edge.update.versions import Versions

OTHER_DISK = Path("/dev/shm")


@dataclass
class Agent:
    """What updates are carried out on, as far as room goes."""

    config: Any
    left_bytes: int

    async def room_bytes(self) -> int:
        return self.left_bytes


@dataclass
class Config:
    state_dir: Path
    models: tuple[Any, ...] = ()


@dataclass
class Model:
    name: str
    directory: Path


@pytest.fixture
def agent(tmp_path: Path) -> Any:
    return Agent(Config(tmp_path / "state", (Model("m", tmp_path / "m"),)), left_bytes=10)


def test_what_the_spool_may_yet_need_is_left_to_it(agent: Any, tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 11
    asyncio.run(check_room(agent, tmp_path / "not" / "there", 10))
    with pytest.raises(NotNowError, match="there: the disk has no room for 11 bytes beside what the spool"):
        asyncio.run(check_room(agent, tmp_path / "not" / "there", 11))


def test_another_disk_is_none_of_the_spools(agent: Any, tmp_path: Path) -> None:
    if not OTHER_DISK.is_dir() or OTHER_DISK.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has but one disk")
    asyncio.run(check_room(agent, OTHER_DISK, 11))
    with pytest.raises(NotNowError, match=r"has no room for \d+ bytes$"):
        asyncio.run(check_room(agent, OTHER_DISK, free_bytes(OTHER_DISK) + (1 << 40)))


def tried() -> None:
    raise AssertionError("there is no room to try it")


def test_an_agent_is_not_unpacked_into_it(agent: Any, tmp_path: Path, operator_key: Any, pack_files: Any) -> None:
    root = tmp_path / "root"
    (root / "versions" / "1").mkdir(parents=True)
    (root / "current").symlink_to("versions/1")
    content, unpacked = pack_files({"lib/edge/__init__.py": "x" * 100})
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    desired = operator_key.desire(content, kind="agent", version="2", unpacked_bytes=unpacked)
    kind = AgentKind(agent, UpdateConfig(), Versions(root, "1"), tmp_path / "edge.yaml")
    with pytest.raises(NotNowError, match="no room for 100 bytes beside what the spool may yet need"):
        asyncio.run(kind.apply(operator_key.accepted(desired), archive, tried))
    assert [path.name for path in (root / "versions").iterdir()] == ["1"]


def test_nor_is_a_model(agent: Any, tmp_path: Path, operator_key: Any, pack_files: Any) -> None:
    content, unpacked = pack_files({"manifest.json": "x" * 100})
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    desired = operator_key.desire(content, kind="model", name="m", version="2", unpacked_bytes=unpacked)
    kind = ModelKind(agent, UpdateConfig(), tmp_path / "updates")
    with pytest.raises(NotNowError, match="no room for 100 bytes beside what the spool may yet need"):
        asyncio.run(kind.apply(operator_key.accepted(desired), archive, tried))
    assert not (tmp_path / "updates").exists()
