"""A net's forms: converted, and checked to be what a device can run before anybody tries."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from models.errors import ConversionError
from models.quantization.flatbuffer import read_graph, settled
from models.quantization.operators import check_int8, check_lstm, check_operators, check_shape
from models.training.tensorflow import keras, tf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from contract.card import Form

    Floats: TypeAlias = NDArray[np.float32]

# TensorFlow warns of statistics that only quantization-aware training has, and of its own way to take a layer out.
_WARNINGS: Final = ("Statistics for quantized inputs were expected", r"\s*Warning: tf\.lite\.Interpreter is deprecated")


@dataclass(frozen=True, slots=True)
class Net:
    """A net for one window, as a SavedModel that all its forms are converted from; `shape` is the window's."""

    place: Path
    shape: tuple[int, ...]
    lstm_layers: int

    def convert(self, form: Form) -> bytes:
        """A .tflite of form float32, float16 or dynamic; raises ConversionError unless every device can run it."""
        return self._checked(form, lambda: self._converter(form).convert())

    def convert_int8(self, calibration: Floats, *, wide: bool = False) -> bytes:
        """A .tflite that calculates with int8, calibrated by these windows [n, ...]; raises ConversionError.

        Its input and output stay float32: two operators that cost nothing to speak of, and nobody has to know their
        scales. All of int8's outputs share 256 levels; `wide`: the last layer calculates in float32, for outputs of
        very different spread.
        """

        def batches() -> Iterator[list[Floats]]:
            return ([window[None]] for window in calibration)

        converter = self._converter("int8")
        converter.representative_dataset = batches
        content = self._checked("int8", lambda: self._widened(converter, batches) if wide else converter.convert())
        check_int8(read_graph(content), wide=wide)
        return content

    def _converter(self, form: Form) -> Any:  # noqa: ANN401 - TensorFlow is untyped
        converter = tf.lite.TFLiteConverter.from_saved_model(str(self.place))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        # Per channel, a dense layer is an operator of a version that tflite-runtime 2.14 does not know.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # noqa: SLF001 - the only way
        if form != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter

    def _widened(self, converter: Any, batches: Callable[[], Iterator[list[Floats]]]) -> bytes:  # noqa: ANN401 - as above
        last = read_graph(self._converter("float32").convert()).last_layer
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=list(last))
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=batches, debug_options=options
        )
        content: bytes = debugger.get_nondebug_quantized_model()
        return content

    def _checked(self, form: Form, convert: Callable[[], bytes]) -> bytes:
        try:
            with _silence():
                content = settled(convert())
            graph = read_graph(content)
            check_operators(graph)
            check_shape(graph, self.shape)
            check_lstm(graph, self.lstm_layers)
        except ConversionError as exc:
            raise ConversionError(f"{form}: {exc}") from exc
        except Exception as exc:
            # Whatever its C++ ends with comes as a bare Exception.
            raise ConversionError(f"{form}: cannot be converted: {' '.join(str(exc).split())[:500]}") from exc
        return content


@contextmanager
def exported(core: keras.Model) -> Iterator[Net]:
    """The net of scaled windows, exported once: that is what takes its time in a conversion."""
    shape = tuple(core.input_shape[1:])
    window = tf.TensorSpec((1, *shape), tf.float32, name="window")
    # With a batch that is not fixed, an LSTM leaves the built-in operators.
    run = tf.function(lambda window: core(window, training=False), input_signature=[window])
    # Of the net itself Keras would have every layer traced and saved, which takes three times as long.
    bare = tf.Module()
    bare.run, bare.weights = run, core.weights
    with tempfile.TemporaryDirectory(prefix="headwater-net-") as place:
        with _silence():
            tf.saved_model.save(bare, place, signatures=run.get_concrete_function())
        yield Net(Path(place), shape, _lstm_layers(core))


def _lstm_layers(model: keras.Model) -> int:
    inner = (_lstm_layers(each) for each in model.layers if isinstance(each, keras.Model))
    return sum(isinstance(each, keras.layers.LSTM) for each in model.layers) + sum(inner)


@contextmanager
def _silence() -> Iterator[None]:
    """The converter's C++ tells what it does on stderr, whatever it is asked; its faults come as exceptions."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
