"""A process of its own, in which one runtime runs one model: `python -m models.quantization.child RUNTIME`.

For its memory to be its own, and because tflite-runtime fails where TensorFlow has been imported before it. On stdin
comes a request as JSON, {"model", "windows", "outputs"}, paths all; on stdout goes the answer: what `Run` has of
it, or {"fault"}. `windows` is a .npy of float32 [n, length, features]; `outputs` will be one of [n, numbers].
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODULES: Final = {"tflite-runtime": "tflite_runtime.interpreter", "ai-edge-litert": "ai_edge_litert.interpreter"}
_WARM_UP: Final = 20
# Fewer runs would tell no 99th percentile.
_LEAST_TIMED: Final = 500
_RESET_PEAK: Final = "5"


def main() -> None:
    """Answers one request."""
    answers = sys.stdout
    # What a runtime prints is none of the answer.
    sys.stdout = sys.stderr
    request = json.load(sys.stdin)
    runtime = sys.argv[1]
    interpreter = importlib.import_module(MODULES[runtime]).Interpreter
    windows = np.load(request["windows"])  # [n, L, F]
    answer: dict[str, float | str]
    try:
        answer = {**_run(interpreter, Path(request["model"]).read_bytes(), windows, Path(request["outputs"]))}
    except (ValueError, RuntimeError, MemoryError) as exc:
        answer = {"fault": " ".join(str(exc).split())[:300] or type(exc).__name__}
    json.dump(answer | {"version": importlib.metadata.version(runtime)}, answers)


def _run(interpreter: Any, content: bytes, windows: NDArray[np.float32], place: Path) -> dict[str, float]:  # noqa: ANN401 - a class of untyped libraries
    before_kb = _peak_kb()
    net = interpreter(model_content=content, num_threads=1)
    net.allocate_tensors()
    (taken,), (given,) = net.get_input_details(), net.get_output_details()
    outputs = np.empty((len(windows), int(np.prod(given["shape"]))), np.float32)
    took_ns = np.empty(max(len(windows), _LEAST_TIMED), np.int64)
    for turn in range(-_WARM_UP, len(took_ns)):
        index = turn % len(windows)
        began_ns = time.perf_counter_ns()
        # The fused LSTM keeps its state from one window to the next.
        net.reset_all_variables()
        net.set_tensor(taken["index"], windows[index : index + 1])
        net.invoke()
        output = net.get_tensor(given["index"])
        took_ns[max(turn, 0)] = time.perf_counter_ns() - began_ns
        outputs[index] = output.reshape(-1)
    peak_kb = _peak_kb(reset=False)
    np.save(place, outputs)
    own_kb = outputs.nbytes / 1024 + took_ns.nbytes / 1024
    median, p99 = np.quantile(took_ns / 1000, (0.5, 0.99))
    return {"median_us": float(median), "p99_us": float(p99), "peak_kb": max(0.0, peak_kb - before_kb - own_kb)}


def _peak_kb(*, reset: bool = True) -> int:
    """The most memory that this process has had, KiB; after a reset that is what it has now."""
    if reset:
        # Some containers forbid it: the peak may then be one from before, and what is told too small.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    main()
