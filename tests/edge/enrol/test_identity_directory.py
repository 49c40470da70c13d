"""The directory of an identity, read while another identity takes its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.enrol import directory as directories

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from edge.enrol.directory import IdentityDirectory


def test_who_reads_while_another_takes_its_place_finds_the_other(
    scripted_fleet: Any, identity_directory: IdentityDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity_directory.put(scripted_fleet.identity())
    to_come = [scripted_fleet.identity()]
    other = to_come[0]
    read_file = directories.read_bounded

    def read_and_lose(path: Path) -> bytes | None:
        content = read_file(path)
        if to_come:
            identity_directory.put(to_come.pop())
        return content

    monkeypatch.setattr(directories, "read_bounded", read_and_lose)
    assert identity_directory.read() == other
