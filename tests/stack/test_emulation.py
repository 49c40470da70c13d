"""What the kernel is told about other architectures' programs: a folder in place of binfmt_misc shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stack.docker import emulation

if TYPE_CHECKING:
    from pathlib import Path

RULE = r":qemu-aarch64:M::\x7f\x45:\xff\xff:/usr/libexec/qemu-binfmt/aarch64-binfmt-P:OPF"


@pytest.fixture
def binfmt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder; beside it the package's rules."""
    monkeypatch.setattr(emulation, "_BINFMT", tmp_path / "binfmt")
    monkeypatch.setattr(emulation, "_RULES", tmp_path)
    (tmp_path / "qemu-aarch64.conf").write_text(f"{RULE}\n")
    (tmp_path / "binfmt").mkdir()
    (tmp_path / "binfmt/register").touch()
    return tmp_path / "binfmt"


def arch_test(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Debian's command of this name, which says by its status whether the kernel runs an architecture's programs."""
    program = folder.parent / "arch-test"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_the_packages_rule_is_ours_for_a_while(binfmt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch_test(binfmt, monkeypatch, 1)
    with emulation.emulated("arm64"):
        assert (binfmt / "register").read_text() == RULE.replace(":qemu-aarch64:", ":headwater-aarch64:")
        assert not (binfmt / "headwater-aarch64").exists()
    assert (binfmt / "headwater-aarch64").read_text() == "-1"


def test_it_ends_with_what_it_was_for(binfmt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch_test(binfmt, monkeypatch, 1)
    with pytest.raises(RuntimeError, match="a build"), emulation.emulated("arm64"):
        raise RuntimeError("a build that fails")
    assert (binfmt / "headwater-aarch64").read_text() == "-1"


def test_somebody_elses_rule_is_left_alone(binfmt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch_test(binfmt, monkeypatch, 0)
    (binfmt / "qemu-aarch64").write_text("enabled\n")
    with emulation.emulated("arm64"):
        pass
    assert {path.name: path.read_text() for path in binfmt.iterdir()} == {"register": "", "qemu-aarch64": "enabled\n"}


def test_what_a_killed_run_has_left_is_removed(binfmt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch_test(binfmt, monkeypatch, 0)
    (binfmt / "headwater-aarch64").write_text("enabled\n")
    with emulation.emulated("arm64"):
        assert (binfmt / "register").read_text() == ""
    assert (binfmt / "headwater-aarch64").read_text() == "-1"
