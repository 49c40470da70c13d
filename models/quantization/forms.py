"""A net's forms: converted, and checked to be what a device can run before anybody tries."""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from models.errors import ConversionError
from models.quantization.calibration import check_range, representative
from models.quantization.flatbuffer import read_graph, settled
from models.quantization.operators import check_batch, check_int8, check_lstm, check_operators
from models.training.tensorflow import keras, tf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from contract.manifest import Form

    Floats: TypeAlias = NDArray[np.float32]

# TensorFlow's converter warns of statistics that only quantization-aware training has.
_STATISTICS: Final = "Statistics for quantized inputs were expected"


@dataclass(frozen=True, slots=True)
class Net:
    """A net for one window, as a SavedModel that all its forms are converted from."""

    place: Path
    length: int
    features: int
    lstm_layers: int

    def convert(self, form: Form, calibration: Floats | None = None) -> bytes:
        """A .tflite, float32 at both ends; raises ConversionError where it is not to be had or not for every device.

        int8 wants windows [n, L, F] to calibrate by. Its input and output stay float32: two operators that cost
        nothing to speak of, and nobody has to know their scales.
        """
        if (form == "int8") != (calibration is not None):
            raise ConversionError("int8, and it alone, is calibrated")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(self.place))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        # Per channel, a dense layer is an operator of a version that tflite-runtime 2.14 does not know.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # noqa: SLF001 - the only way
        if form != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if calibration is not None:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: ([window[None]] for window in calibration)
        try:
            with _silence():
                content = settled(converter.convert())
            self.check(form, content)
        except ConversionError as exc:
            raise ConversionError(f"{form}: {exc}") from exc
        except Exception as exc:  # the converter raises whatever comes to it
            raise ConversionError(f"{form}: cannot be converted: {' '.join(str(exc).split())[:500]}") from exc
        return content

    def check(self, form: Form, content: bytes) -> None:
        """Raises ConversionError unless every device has the operators, and they are the ones wanted."""
        graph = read_graph(content)
        check_operators(graph)
        check_batch(graph, self.length, self.features)
        check_lstm(graph, self.lstm_layers)
        if form == "int8":
            check_int8(graph)


@contextmanager
def exported(core: keras.Model) -> Iterator[Net]:
    """The net of scaled windows, exported once: that is what takes its time in a conversion."""
    _, length, features = core.input_shape
    window = tf.TensorSpec((1, length, features), tf.float32, name="window")
    # With a batch that is not fixed, an LSTM leaves the built-in operators.
    run = tf.function(lambda window: core(window, training=False), input_signature=[window])
    layers = sum(isinstance(each, keras.layers.LSTM) for each in core.submodules)
    # Of the net itself Keras would have every layer traced and saved, which takes three times as long.
    bare = tf.Module()
    bare.run, bare.weights = run, core.weights
    with tempfile.TemporaryDirectory(prefix="headwater-net-") as place:
        with _silence():
            tf.saved_model.save(bare, place, signatures=run.get_concrete_function())
        yield Net(Path(place), length, features, layers)


def converted(core: keras.Model, windows: Floats, *, amplified: bool = False) -> dict[Form, bytes]:
    """All four forms of a net, which was trained on these scaled windows [n, L, F]; raises ConversionError."""
    with exported(core) as net:
        calibration = representative(windows, amplified=amplified)
        contents: dict[Form, bytes] = {
            "float32": net.convert("float32"),
            "float16": net.convert("float16"),
            "dynamic": net.convert("dynamic"),
            "int8": net.convert("int8", calibration),
        }
    check_range(read_graph(contents["int8"]).first_int8, windows)
    return contents


@contextmanager
def _silence() -> Iterator[None]:
    """The converter's C++ tells what it does on stderr, whatever it is asked; its faults come as exceptions."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_STATISTICS)
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
