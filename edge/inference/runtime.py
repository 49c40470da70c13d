"""The one place that knows a TFLite runtime: tflite-runtime up to Python 3.11, ai-edge-litert from 3.12 on."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if sys.version_info >= (3, 12):
    from ai_edge_litert.interpreter import Interpreter

    _DISTRIBUTION = "ai-edge-litert"
else:
    from tflite_runtime.interpreter import Interpreter

    _DISTRIBUTION = "tflite-runtime"

if TYPE_CHECKING:
    from edge.inference.arithmetic import Singles


class NetError(Exception):
    """A model that cannot be loaded, is not what it is said to be, or fails; the message says which."""


def runtime_name() -> str:
    """The runtime and its version."""
    return f"{_DISTRIBUTION} {importlib.metadata.version(_DISTRIBUTION)}"


class Net:
    """A loaded model of one input and one output; raises NetError for one that is not."""

    def __init__(self, content: bytes) -> None:
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, MemoryError) as exc:
            raise NetError(f"{runtime_name()} does not take it: {_line(exc)}") from exc
        self._input = _the_only(self._interpreter.get_input_details(), "input")
        self._output = _the_only(self._interpreter.get_output_details(), "output")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """What it takes."""
        return tuple(int(size) for size in self._input["shape"])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What it gives."""
        return tuple(int(size) for size in self._output["shape"])

    def run(self, window: Singles) -> Singles:
        """The output for a window of `input_shape`; raises NetError."""
        interpreter = self._interpreter
        try:
            # The fused LSTM keeps its state from one window to the next.
            interpreter.reset_all_variables()
            interpreter.set_tensor(self._input["index"], _quantized(window, self._input))
            interpreter.invoke()
            output = interpreter.get_tensor(self._output["index"])
        except (ValueError, RuntimeError, MemoryError) as exc:
            raise NetError(f"it fails: {_line(exc)}") from exc
        return _dequantized(output, self._output)


def _the_only(details: list[dict[str, Any]], what: str) -> dict[str, Any]:
    if len(details) != 1:
        raise NetError(f"it has {len(details)} {what}s, allowed is one")
    (only,) = details
    if (only["shape_signature"] < 0).any():
        raise NetError(
            f"its {what} has a shape that is not fixed, {only['shape_signature'].tolist()}: convert for batch 1"
        )
    if only["dtype"] not in {np.float32, np.int8} or (only["dtype"] == np.int8 and not only["quantization"][0]):
        raise NetError(f"its {what} is {np.dtype(only['dtype']).name}, allowed are float32 and int8 with a scale")
    return only


def _quantized(window: Singles, tensor: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever type the tensor is of
    if tensor["dtype"] == np.float32:
        return window
    scale, zero = tensor["quantization"]
    return np.clip(np.rint(window / scale + zero), -128, 127).astype(np.int8)


def _dequantized(output: Any, tensor: dict[str, Any]) -> Singles:  # noqa: ANN401 - as above
    if tensor["dtype"] == np.float32:
        return np.asarray(output, dtype=np.float32)
    scale, zero = tensor["quantization"]
    return np.asarray((output.astype(np.float32) - zero) * scale, np.float32)


def _line(exc: Exception) -> str:
    return " ".join(str(exc).split())[:300] or type(exc).__name__
