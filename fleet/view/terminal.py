"""The terminal that something is shown on."""

from __future__ import annotations

import io
import os
import sys
from typing import Final

from rich.console import Console

# What goes into a file or a pipe is cut nowhere.
_NO_TERMINAL: Final = 400


def terminal() -> Console:
    """Standard output: as wide as it is, and without colours and bounds where it is no terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # one that knows no ° shall see the rest
    is_cut = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if is_cut else _NO_TERMINAL, highlight=False, markup=False, emoji=False)
