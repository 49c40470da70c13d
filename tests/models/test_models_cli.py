"""What `python -m models` says when it is used wrongly, or finds what it should not: a line, never a traceback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from models.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["train", "nope"], "'nope' is no recipe; there are stock-minute"),
        (["train", "tank-level", "--name", "../mine"], "--name: found '../mine'"),
        (["train", "tank-level", "--name", ""], "--name: found ''"),
        (["train", "tank-level", "--seed", "-1"], "--seed: found -1, allowed: 0 to 4294967295"),
        (["train", "tank-level", "--jobs", "0"], "--jobs: found 0"),
        (["make", "tank-level", "nope"], "nope: no recipe"),
        (["tables"], "nothing was made yet"),
        (["register", "tank-level"], "there is no package yet"),
    ],
)
def test_wrong_use_is_a_line_before_anything_is_made(
    argv: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert said in (told := capsys.readouterr().err)
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_not_there_is_told_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["make", "tank-level", "--key", "fleet.pem"]) == 1
    assert "fleet.pem: cannot be read: No such file or directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["data", "plant", "--quick", "--data", str(tmp_path / "file")]) == 1
    assert "Not a directory" in (told := capsys.readouterr().err)
    assert told.count("\n") == 1


def test_a_garbled_evaluation_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tank-level").mkdir()
    (tmp_path / "tank-level/evaluation.json").write_text(json.dumps({"kind": "forecast"}), encoding="utf-8")
    assert main(["tables", "--work", str(tmp_path)]) == 1
    assert "is not as `evaluate` writes it" in capsys.readouterr().err


def test_what_was_put_aside_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/mine-1a2b.npz").touch()
    assert main(["data", "--data", str(tmp_path)]) == 0
    assert "kept:mine-1a2b" in capsys.readouterr().out
