"""How the commands that make models run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

DATA: Final = Path(".models/data")
WORK: Final = Path(".models/work")
REGISTRY: Final = Path(".models/registry")

# In the working directory of a recipe: what a device gets, and what stands beside it for those who judge it.
PACKAGE: Final = "package"
EVALUATION: Final = "evaluation.json"
TABLES: Final = "quantization.md"
EVIDENCE: Final = ("trained.json", EVALUATION, "quantization.json", "report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where things lie and how much is done: `quick` is seconds instead of minutes, and good for nothing but trying.

    `data` has downloaded and simulated data, `work` a directory for each recipe; `jobs` is how many processes train.
    `key` is the fleet's, which signs packages; none: they are not signed.
    """

    console: Console
    data: Path = DATA
    work: Path = WORK
    quick: bool = False
    seed: int = 1
    jobs: int = 2
    key: Path | None = None
