"""Updates of the agent itself: whole agents under the launcher, started again as systemd does it."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import contract
import edge.launcher
from contract.topics import MessageType
from contract.update_news import UpdateNews
from edge.errors import NotNowError, UpdateError
from edge.update.versions import Versions, architecture

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT_OF_CODE = Path(contract.__file__).parents[1]
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def manifest(version: str, **more: str) -> str:
    told = {"version": version, "arch": MACHINE, "python": PYTHON} | more
    return "{" + ", ".join([*(f'"{key}": "{value}"' for key, value in told.items()), '"format": 1']) + "}"


def agent_files(version: str, **changed: tuple[str, str]) -> dict[str, bytes | str]:
    """This very agent as a version; `changed`: in a file of edge, by its stem, what is replaced by what."""
    found: dict[str, bytes | str] = {"manifest.json": manifest(version)}
    for package in ("edge", "contract"):
        for path in (ROOT_OF_CODE / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"lib/{path.relative_to(ROOT_OF_CODE)}"] = path.read_bytes()
    for stem, (before, after) in changed.items():
        name = f"lib/edge/{stem.replace('__', '/')}.py"
        content = found[name]
        assert isinstance(content, bytes)
        assert before.encode() in content
        found[name] = content.replace(before.encode(), after.encode(), 1)
    return found


class Supervisor:
    """Starts it again whenever it ends, as `Restart=always` has it."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.codes: list[int] = []
        self._command = command
        self._log = log
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stderr=log, env=os.environ | {"PYTHONHASHSEED": "0"})
            self.codes.append(self._process.wait())

    def stop(self) -> None:
        self._stopped.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
        self._thread.join()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name, content in agent_files("1").items():
        path = root / "versions" / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (root / "current").symlink_to("versions/1")
    return root


@pytest.fixture
def supervised(site: Any, root: Path) -> Iterator[Supervisor]:
    site.document["update"] |= {"confirm_s": 8, "max_starts": 2}
    site.path.write_bytes(site.text())
    command = [sys.executable, "-I", edge.launcher.__file__, "--root", str(root), "--", "run", str(site.path)]
    supervisor = Supervisor(command, site.directory / "log")
    yield supervisor
    supervisor.stop()


@dataclass(frozen=True)
class Rollouts:
    """Versions that are rolled out to the node, and what comes of them."""

    site: Any
    pack_files: Any
    wait_for: Any

    def roll_out(self, version: str, **changed: tuple[str, str]) -> Any:
        content, unpacked = self.pack_files(agent_files(version, **changed))
        return self.site.operator.roll_out(content, kind="agent", version=version, unpacked_bytes=unpacked)

    def comes_to(self, desired: Any, state: str) -> UpdateNews:
        """What the node tells of it then."""

        def found() -> list[UpdateNews]:
            return [news for news in self._told() if (news.counter, news.state) == (desired.counter, state)]

        self.wait_for(found, f"{desired.version} is {state}")
        return found()[-1]

    def _told(self) -> list[UpdateNews]:
        messages = self.site.bridge.of_type(MessageType.NDATA)
        metrics = [metric for message in messages for metric in message.payload.metrics]
        return [UpdateNews.from_metric(metric) for metric in metrics if metric.name == "Update/agent/agent"]


@pytest.fixture
def rollouts(site: Any, pack_files: Any, wait_for: Any) -> Rollouts:
    return Rollouts(site, pack_files, wait_for)


def test_a_good_version_confirms_itself_and_broken_ones_are_put_back(
    rollouts: Rollouts, root: Path, supervised: Supervisor, wait_for: Any
) -> None:
    def current() -> str:
        return (root / "current").readlink().name

    assert rollouts.comes_to(rollouts.roll_out("2"), "confirmed").running == "2"
    assert (current(), supervised.codes) == ("2", [75])

    # Its imports and its check of the configuration are well; it just does not run.
    crashes = rollouts.roll_out("3", agent=("beginning = await self._spool.start()", "raise SystemExit(9)"))
    news = rollouts.comes_to(crashes, "rolled_back")
    assert "was started 2 times" in str(news.reason)
    assert news.running == "2"
    assert (current(), supervised.codes) == ("2", [75, 75, 9, 9])

    # It runs, polls and never delivers: it finds that out by itself.
    silent = rollouts.roll_out(
        "4",
        uplink__uplink=(
            "            while not await self._is_done():",
            "            while await asyncio.sleep(60) or True:",
        ),
    )
    news = rollouts.comes_to(silent, "rolled_back")
    assert "nothing is delivered" in str(news.reason)
    assert (current(), news.running) == ("2", "2")
    assert supervised.codes[4:] == [75, 75]
    wait_for(lambda: sorted(path.name for path in (root / "versions").iterdir()) == ["1", "2"], "those are deleted")


def version_of(files: dict[str, bytes | str], drop: str) -> dict[str, bytes | str]:
    return {name: content for name, content in files.items() if not name.startswith(drop)}


SMALL: dict[str, bytes | str] = {
    "lib/edge/__init__.py": "",
    "lib/edge/__main__.py": "",
    "lib/contract/__init__.py": "",
    "manifest.json": manifest("2"),
}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (SMALL | {"lib/edge/__main__.py": "import sys; sys.exit('state_dir: is not a known key')"}, "not a known key"),
        (SMALL | {"lib/edge/__main__.py": "import nothing_such"}, "No module named 'nothing_such'"),
        (SMALL | {"manifest.json": manifest("3")}, "its archive is of version 3"),
        (SMALL | {"manifest.json": manifest("2", arch="riscv")}, "it is for riscv and Python"),
        (SMALL | {"manifest.json": manifest("2", python="2.7")}, "and Python 2.7, and this is"),
        (SMALL | {"manifest.json": "{"}, "is not JSON"),
        (version_of(SMALL, "manifest"), "has no manifest.json"),
        (version_of(SMALL, "lib/contract"), "has no lib/contract"),
        (SMALL | {"deps": "libs-9\n"}, "it wants the libraries 'libs-9', which are not here"),
        (SMALL | {"deps": "../versions\n"}, "which are not here"),
    ],
)
def test_what_could_not_run_here_is_refused_before_anything_is_switched(
    files: dict[str, bytes | str], why: str, tmp_path: Path, pack_files: Any, operator_key: Any
) -> None:
    (tmp_path / "versions" / "1").mkdir(parents=True)
    (tmp_path / "current").symlink_to("versions/1")
    content, unpacked = pack_files(files)
    desired = operator_key.desire(content, kind="agent", version="2", unpacked_bytes=unpacked or 1)
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    versions = Versions(tmp_path, "1")
    with pytest.raises(UpdateError, match=why):
        asyncio.run(versions.install(desired, archive, tmp_path / "edge.yaml"))
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["1"]


def test_an_archive_that_means_no_good_is_refused_and_leaves_nothing(
    evil_archive: tuple[bytes, str], tmp_path: Path, operator_key: Any
) -> None:
    (tmp_path / "root" / "versions" / "1").mkdir(parents=True)
    content, why = evil_archive
    (tmp_path / "archive").write_bytes(content)
    desired = operator_key.desire(content, kind="agent", version="2", unpacked_bytes=1000)
    with pytest.raises(UpdateError, match=why):
        asyncio.run(Versions(tmp_path / "root", "1").install(desired, tmp_path / "archive", tmp_path / "edge.yaml"))
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["archive", "root", "root/versions", "root/versions/1"]


@pytest.mark.parametrize(
    ("machine", "pointer_bytes", "known_as"),
    [
        ("aarch64", 8, "arm64"),
        ("aarch64", 4, "armhf"),
        ("armv8l", 4, "armhf"),
        ("armv7l", 4, "armhf"),
        ("x86_64", 8, "amd64"),
    ],
)
def test_a_system_of_32_bits_is_known_on_a_kernel_of_64(
    machine: str, pointer_bytes: int, known_as: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("edge.update.versions.platform.machine", lambda: machine)
        patched.setattr("edge.update.versions.struct.calcsize", lambda _form: pointer_bytes)
        assert architecture() == known_as


def test_what_the_machine_cannot_do_just_then_is_no_refusal(
    tmp_path: Path, pack_files: Any, operator_key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "versions").mkdir()
    killed = {"lib/edge/__main__.py": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"}
    content, unpacked = pack_files(SMALL | killed)
    desired = operator_key.desire(content, kind="agent", version="2", unpacked_bytes=unpacked)
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    versions = Versions(tmp_path, "1")
    with pytest.raises(NotNowError, match="its check of the present configuration was killed"):
        asyncio.run(versions.install(desired, archive, tmp_path / "edge.yaml"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NotNowError, match="current: cannot be read"):
        versions.is_running(desired)
    monkeypatch.setattr("edge.update.versions.write_json", full)
    with pytest.raises(NotNowError, match=r"trial\.json: cannot be written: No space left on device"):
        versions.begin_trial(desired, 60, 3, [])


def test_what_runs_already_is_known_by_its_content(tmp_path: Path, pack_files: Any, operator_key: Any) -> None:
    (tmp_path / "versions").mkdir()
    content, unpacked = pack_files(SMALL)
    desired = operator_key.desire(content, kind="agent", version="2", unpacked_bytes=unpacked)
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    asyncio.run(Versions(tmp_path, "1").install(desired, archive, tmp_path / "edge.yaml"))
    (tmp_path / "current").symlink_to("versions/2")
    versions = Versions(tmp_path, "2")
    assert versions.is_running(desired)
    with pytest.raises(UpdateError, match="give it a version of its own"):
        versions.is_running(desired.model_copy(update={"sha256": "0" * 64}))
    shutil.rmtree(tmp_path / "versions" / "2")
    versions.prune("2")
