"""Spark's temporary files: what a killed run left goes, and a second stream is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream.errors import FatalError
from stream.scratch import scratch_dir

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_run_left_is_removed() -> None:
    with scratch_dir("checkpoint") as scratch:
        (scratch / "blockmgr").mkdir()
    (scratch / "left").write_text("by a run that was killed")
    with scratch_dir("checkpoint") as again:
        assert again == scratch
        assert list(again.iterdir()) == []


def test_a_second_stream_with_the_checkpoint_is_refused_and_another_is_not() -> None:
    with scratch_dir("one") as scratch:
        (scratch / "in use").touch()
        with pytest.raises(FatalError, match="another stream runs with the checkpoint one"), scratch_dir("one"):
            pass
        assert (scratch / "in use").exists()
        with scratch_dir("two") as other:
            assert other != scratch


def test_a_directory_that_somebody_else_could_write_to_is_refused(temporary: Path) -> None:
    with scratch_dir("checkpoint") as scratch:
        pass
    scratch.parent.chmod(0o777)
    with pytest.raises(FatalError, match="not a directory of ours alone"), scratch_dir("checkpoint"):
        pass
    (temporary / "elsewhere").mkdir()
    (scratch / "..").resolve().rename(temporary / "moved")
    scratch.parent.symlink_to(temporary / "elsewhere")
    with pytest.raises(FatalError, match="not a directory of ours alone"), scratch_dir("checkpoint"):
        pass
