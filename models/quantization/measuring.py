"""Each form in each runtime, tried and timed in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from models.errors import ConversionError
from models.quantization.child import MODULES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

_CODE: Final = Path(__file__).parents[2]
_TIMEOUT_S: Final = 120
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True, slots=True)
class Run:
    """How a runtime did: microseconds for a window on one thread, KiB beyond those of the runtime without a model.

    With a `fault` there are no numbers: the runtime did not take the model, or did not survive it.
    """

    runtime: str
    median_us: float = 0.0
    p99_us: float = 0.0
    peak_kb: float = 0.0
    fault: str | None = None


def runtimes() -> tuple[str, ...]:
    """The runtimes that this Python has: tflite-runtime up to 3.11, ai-edge-litert always."""
    return tuple(name for name, module in MODULES.items() if importlib.util.find_spec(module.partition(".")[0]))


def measure(runtime: str, content: bytes, windows: Path, workspace: Path) -> tuple[Run, Floats | None]:
    """A .tflite on scaled windows, a .npy [n, L, F]: how it did, and its outputs [n, numbers]; none with a fault."""
    model, outputs = workspace / "model.tflite", workspace / "outputs.npy"
    model.write_bytes(content)
    request = {"model": str(model), "windows": str(windows), "outputs": str(outputs)}
    answer = _ask(runtime, json.dumps(request))
    title = f"{runtime} {answer['version']}" if "version" in answer else runtime
    if "fault" in answer:
        return Run(title, fault=str(answer["fault"])), None
    told: Floats = np.load(outputs)
    if not np.isfinite(told).all():
        return Run(title, fault=f"{np.count_nonzero(~np.isfinite(told))} numbers of its results are not finite"), None
    return Run(title, answer["median_us"], answer["p99_us"], answer["peak_kb"]), told


def _ask(runtime: str, request: str) -> dict[str, Any]:
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            (sys.executable, "-m", "models.quantization.child", runtime),
            input=request,
            capture_output=True,
            text=True,
            cwd=_CODE,
            env=os.environ | _ENVIRONMENT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"fault": f"does not come to an end within {_TIMEOUT_S} s"}
    if done.returncode < 0:
        return {"fault": f"ends by {signal.Signals(-done.returncode).name}"}
    if done.returncode:
        raise ConversionError(f"{runtime} cannot be tried: {done.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
