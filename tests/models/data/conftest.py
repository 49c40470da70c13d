from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from models.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(console=Console(quiet=True), data=tmp_path / "data", quick=True)


@pytest.fixture(scope="session")
def zipped() -> Callable[[Mapping[str, bytes]], bytes]:
    """A zip of these files, as deflated as a wheel."""

    def make(files: Mapping[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make
