"""What quantization came to: every form that was tried, in every runtime."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from contract.card import Form
    from models.quantization.measuring import Run

QUANTIZATION_FILE: Final = "quantization.json"
# A form whose measure is worse than float's by more than this share is not given to devices.
MOST_WORSE: Final = 0.01


def _machine() -> str:
    """The processor, as far as the machine says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, platform.machine())


@dataclass(frozen=True, slots=True)
class Error:
    """How far results were from TensorFlow's in float: the greatest difference and the mean one, in the unit."""

    of: str
    unit: str | None
    greatest: float
    mean: float


@dataclass(frozen=True, slots=True)
class Judged:
    """How good a form's outputs are: `value` of the measure, and the share by which it is worse than that of float.

    Of several targets `worse` is that of the one which suffers most.
    """

    value: float
    worse: float
    errors: tuple[Error, ...]


@dataclass(frozen=True, slots=True)
class Tried:
    """A form. `wide`: its last layer calculates in float32. `left_out` is why devices do not get it, if they do not."""

    form: Form
    wide: bool
    size_bytes: int
    runs: tuple[Run, ...]
    judged: Judged | None
    left_out: str | None = None

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.form}, last layer float32" if self.wide else self.form


@dataclass(frozen=True, slots=True)
class Quantization:
    """Of a recipe; `reference` is the value of `measure` (pinball: less is better) that TensorFlow's float has."""

    recipe: str
    measure: str
    reference: float
    windows: int
    tried: tuple[Tried, ...]
    machine: str = field(default_factory=_machine)

    def fastest(self, runtime: str) -> str | None:
        """The form that a device with this runtime, and this processor, would choose."""
        times = {
            each.title: run.median_us
            for each in self.tried
            for run in each.runs
            if run.runtime == runtime and not each.left_out
        }
        return min(times, key=times.__getitem__, default=None)

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Those in which forms were tried."""
        return tuple(dict.fromkeys(run.runtime for each in self.tried for run in each.runs))

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"fastest": {runtime: self.fastest(runtime) for runtime in self.runtimes}}
