"""The command `python -m db`, as an operator runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


@pytest.fixture
def db(database: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m db ...` on the test's own database; keywords are environment variables."""

    def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "db", *arguments],
            env=os.environ | {"HEADWATER_DSN": database} | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return command
