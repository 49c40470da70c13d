from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.errors import FleetError
from fleet.files import only_one

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("place", ["a directory", "not/there"])
def test_a_lock_that_cannot_be_had_is_told(place: str, tmp_path: Path) -> None:
    (tmp_path / "a directory").mkdir()
    with pytest.raises(FleetError, match="cannot be opened, to be the only one"), only_one(tmp_path / place):
        pass


def test_a_failure_of_what_is_done_alone_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the disk"), only_one(tmp_path / "lock"):
        raise OSError("the disk")
    with only_one(tmp_path / "lock"):
        pass
