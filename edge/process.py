"""Processes of our own beside the agent's: what is heavy, or can hang, runs in one that can be killed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

_CODE: Final = Path(__file__).parents[1]
# One thread each: more only cost memory here.
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


async def start_process(module: str, environment: dict[str, str], limit_bytes: int) -> asyncio.subprocess.Process:
    """Runs a module, of which we hold all three pipes; a line or frame of it has so many bytes at most.

    Raises OSError.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=_CODE,
        env=os.environ | _ENVIRONMENT | environment,
        limit=limit_bytes,
    )
