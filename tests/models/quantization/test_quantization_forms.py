from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.errors import ConversionError
from models.quantization.flatbuffer import read_graph
from models.quantization.forms import exported
from models.quantization.measuring import measure, runtimes
from models.quantization.operators import check_int8, check_lstm
from models.training.tensorflow import keras, tf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.card import Form
    from models.quantization.forms import Net

RUNTIMES = runtimes()
NEWER = Path(__file__).parents[2] / "edge" / "models" / "nets" / "newer.tflite"
WINDOWS = np.random.default_rng(1).normal(size=(60, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def core() -> keras.Model:
    """Large enough that there is something in it to quantize."""
    keras.utils.set_random_seed(1)
    window = keras.Input((16, 3))
    state = keras.layers.LSTM(40)(window)
    return keras.Model(window, keras.layers.Dense(30, bias_initializer="random_normal")(state), name="core")


@pytest.fixture(scope="module")
def net(core: keras.Model) -> Iterator[Net]:
    with exported(core) as found:
        yield found


@pytest.fixture(scope="module")
def forms(net: Net) -> dict[str, bytes]:
    plain: tuple[Form, ...] = ("float32", "float16", "dynamic")
    return {form: net.convert(form) for form in plain} | {"int8": net.convert_int8(WINDOWS)}


def outputs(content: bytes, runtime: str, place: Path, windows: Any = WINDOWS) -> Any:
    np.save(place / "windows.npy", windows)
    run, told = measure(runtime, content, place / "windows.npy", place)
    assert run.fault is None
    return told


@pytest.mark.parametrize(
    ("form", "bound", "share"),
    [("float32", 1e-5, 1), ("float16", 5e-3, 0.7), ("dynamic", 0.05, 0.95), ("int8", 0.15, 0.5)],
)
def test_each_form_tells_the_same_in_each_runtime(
    core: keras.Model, forms: dict[str, bytes], form: str, bound: float, share: float, tmp_path: Path
) -> None:
    content = forms[form]
    assert len(content) <= share * len(forms["float32"])
    expected = core.predict_on_batch(WINDOWS)
    for runtime in RUNTIMES:
        assert np.abs(outputs(content, runtime, tmp_path) - expected).max() < bound * expected.std()


def test_a_window_does_not_remember_the_one_before(forms: dict[str, bytes], tmp_path: Path) -> None:
    for runtime in RUNTIMES:
        told = outputs(forms["int8"], runtime, tmp_path, WINDOWS[[5, 7, 5]])
        np.testing.assert_array_equal(told[0], told[2])
        assert (told[0] != told[1]).any()


def test_the_lstm_is_one_operator(forms: dict[str, bytes]) -> None:
    graph = read_graph(forms["float32"])
    assert graph.count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 1
    with pytest.raises(ConversionError, match="1 fused LSTM operators for 2 LSTM layers"):
        check_lstm(graph, 2)


def test_a_loop_is_no_lstm() -> None:
    window = keras.Input((16, 3))
    layer = keras.layers.LSTM(4, recurrent_dropout=0.5, return_sequences=True, go_backwards=True)(window)
    looping = keras.Model(window, layer)
    with exported(looping) as net, pytest.raises(ConversionError, match="float32: has"):
        net.convert("float32")


def test_int8_is_int8_throughout(forms: dict[str, bytes]) -> None:
    graph = read_graph(forms["int8"])
    inside = [each for each in graph.operators if each.name not in {"QUANTIZE", "DEQUANTIZE"}]
    assert {kind for each in inside for kind in each.reads + each.writes} <= {"INT8", "INT16", "INT32"}
    with pytest.raises(ConversionError, match="FULLY_CONNECTED still with float32"):
        check_int8(read_graph(forms["float16"]), wide=False)


def test_a_wide_last_layer_has_no_levels(core: keras.Model, net: Net, forms: dict[str, bytes], tmp_path: Path) -> None:
    plain, wide = forms["int8"], net.convert_int8(WINDOWS, wide=True)
    assert read_graph(wide).operators[-1].writes == ("FLOAT32",)
    assert "INT8" in read_graph(wide).operators[1].writes
    expected = core.predict_on_batch(WINDOWS)
    away = [np.abs(outputs(content, RUNTIMES[0], tmp_path) - expected).mean() for content in (plain, wide)]
    assert away[1] < 0.9 * away[0]


def test_the_same_net_is_the_same_bytes(core: keras.Model, forms: dict[str, bytes]) -> None:
    with exported(core) as again:
        assert again.convert_int8(WINDOWS) == forms["int8"]


def test_what_needs_tensorflows_own_operators_is_refused() -> None:
    window = keras.Input((8, 2))
    refused = pytest.raises(ConversionError, match=r"float32: cannot be converted: .*BesselI0")
    with exported(keras.Model(window, tf.math.bessel_i0(window))) as net, refused:
        net.convert("float32")


def test_an_operator_too_new_is_refused_before_anybody_runs_it(tmp_path: Path) -> None:
    from models.quantization.operators import check_operators  # noqa: PLC0415 - beside its use

    content = NEWER.read_bytes()
    with pytest.raises(ConversionError, match=r"FULLY_CONNECTED is of version 12, tflite-runtime 2\.14 has up to 10"):
        check_operators(read_graph(content))
    np.save(tmp_path / "windows.npy", np.zeros((1, 60, 5), np.float32))
    run, told = measure("tflite-runtime", content, tmp_path / "windows.npy", tmp_path)
    assert told is None
    assert run.fault is not None
    assert "FULLY_CONNECTED" in run.fault


def test_what_ends_its_process_is_a_fault(tmp_path: Path) -> None:
    np.save(tmp_path / "windows.npy", np.zeros((1, 4, 2), np.float32))
    run, told = measure(
        "tflite-runtime", NEWER.with_name("crashes.tflite").read_bytes(), tmp_path / "windows.npy", tmp_path
    )
    assert told is None
    assert run.fault == "ends by SIGSEGV"


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ConversionError, match="is not a TFLite model"):
        read_graph(b"PK\x03\x04 something else")
