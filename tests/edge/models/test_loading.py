"""Nets by the runtime: what is loaded, what is refused and why, and that a window leaves no trace in the next."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from contract.config import parse_config
from edge.inference.arithmetic import NoWindowError, scaled
from edge.inference.loading import load
from edge.inference.runtime import Net, NetError, runtime_name
from edge.models.config import ModelConfig
from edge.models.package import read_package, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.inference.settings import ModelSettings

MODELS = Path(__file__).parents[3] / "bench" / "edge" / "models"


def settings_in(directory: Path, form: str = "fastest") -> ModelSettings:
    package = read_package(directory, ())
    inputs = {name: f"s/{name}" for name in package.manifest.sources}
    config = {"name": "m", "directory": str(directory), "inputs": inputs, "form": form}
    return settings_of(package, parse_config(config, ModelConfig, "c"))


def some_windows(settings: ModelSettings, count: int) -> Any:
    noise = np.random.default_rng(1).standard_normal((count, settings.length, settings.channels)).cumsum(axis=1) / 8
    return noise * [each.scale for each in settings.features] + [each.mean for each in settings.features]


def run(model: Any, window: Any) -> Any:
    return model.run(np.ascontiguousarray(window.T), np.ones(window.T.shape, np.uint8), 0)


@pytest.mark.parametrize("name", ["tank-forecast", "pump-anomaly"])
def test_both_forms_of_a_model_tell_nearly_the_same(name: str) -> None:
    float32, int8 = load(settings_in(MODELS / name, "float32")), load(settings_in(MODELS / name, "int8"))
    windows = some_windows(float32.settings, 30)
    told = np.array([run(float32, window) for window in windows])
    same = np.array([run(int8, window) for window in windows])
    if name == "tank-forecast":
        # In m, of changes of some centimetres.
        assert np.abs(told - same).max() < 0.02
    else:
        assert np.abs(np.log(told[:, 0] / same[:, 0])).max() < 0.3
    both = load(settings_in(MODELS / name))
    assert set(both.us) == {"float32", "int8"}
    assert both.form == min(both.us, key=both.us.__getitem__)


def test_a_window_leaves_no_trace_in_the_next(put_model: Callable[..., Path], tmp_path: Path) -> None:
    model = load(settings_in(put_model(tmp_path / "m", "remembers")))
    first, second = some_windows(model.settings, 2)
    alone = run(model, first)
    run(model, 5 + second)
    assert run(model, first).tolist() == alone.tolist()
    # A fused LSTM keeps its state: without the reset there is a trace.
    net = model.net
    net._interpreter.set_tensor(net._input["index"], scaled(first, model.settings))
    net._interpreter.invoke()
    assert np.abs(net._interpreter.get_tensor(net._output["index"]) - alone).max() > 0.001


def test_a_reading_beyond_all_measure_is_not_the_models_fault(put_model: Callable[..., Path], tmp_path: Path) -> None:
    model = load(settings_in(put_model(tmp_path / "m")))
    window = np.ones((4, 2))
    window[1, 0] = 1e39
    with pytest.raises(NoWindowError, match=r"is 1e\+39 in the window, over 1000 scales from its mean: 1 of 8 numbers"):
        run(model, window)


def test_an_echo_tells_its_window(put_model: Callable[..., Path], tmp_path: Path) -> None:
    model = load(settings_in(put_model(tmp_path / "m")))
    window = np.arange(8.0).reshape(4, 2)
    assert run(model, window).tolist() == window.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("net", "more", "said"),
    [
        ("echo", {"length": 5}, "echo.tflite: takes 1 x 4 x 2, the manifest says 1 x 5 x 2"),
        ("echo", {"inputs": ["a", "b", "c"]}, "takes 1 x 4 x 2, the manifest says 1 x 4 x 3"),
        (
            "echo",
            {
                "output": {
                    "kind": "forecast",
                    "targets": [{"name": "y", "of": ["a"]}],
                    "horizons": [1, 2, 3],
                    "quantiles": [0.1, 0.5],
                }
            },
            "gives 1 x 8, the manifest says 1 x 1 x 3 x 2 or 1 x 6",
        ),
        (
            "echo",
            {"output": {"kind": "anomaly", "score": "reconstruction", "threshold": 1}},
            "gives 1 x 8, the manifest says 1 x 4 x 2",
        ),
        ("echo", {"output": {"kind": "anomaly", "score": "direct", "threshold": 1}}, "the manifest says 1 x 1"),
        ("two-inputs", {}, "it has 2 inputs, allowed is one"),
    ],
)
def test_a_model_that_is_not_what_its_manifest_says_is_refused(
    net: str, more: dict[str, Any], said: str, put_model: Callable[..., Path], tmp_path: Path
) -> None:
    settings = settings_in(put_model(tmp_path / "m", net, **more))
    with pytest.raises(NetError) as caught:
        load(settings)
    assert said in str(caught.value)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="LiteRT knows the operator's version")
def test_an_operator_of_a_later_version_is_refused_with_its_name(
    put_model: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(NetError, match=r"tflite-runtime 2\.14\.0 does not take it: .*FULLY_CONNECTED' version '12'"):
        load(settings_in(put_model(tmp_path / "m", "newer")))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:-1], r"has 927 bytes, the manifest says 928"),
        (lambda content: content + b"x", r"has more bytes, the manifest says 928"),
        (lambda content: content[:-1] + b"x", r"is not the file of the manifest: its SHA-256 is "),
        (None, r"cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_not_the_manifests_is_refused(
    spoil: Any, said: str, put_model: Callable[..., Path], tmp_path: Path
) -> None:
    file = put_model(tmp_path / "m") / "echo.tflite"
    if spoil is None:
        file.unlink()
    else:
        file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(NetError, match=said):
        load(settings_in(tmp_path / "m"))


def test_a_form_that_cannot_be_used_leaves_the_others(put_model: Callable[..., Path], tmp_path: Path) -> None:
    settings = settings_in(put_model(tmp_path / "m"))
    (form,) = settings.forms
    model = load(replace(settings, forms=(replace(form, form="int8", file="gone.tflite"), form)))
    assert (model.form, set(model.us)) == ("float32", {"float32"})


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(NetError, match=f"{runtime_name()} does not take it: "):
        Net(b"not a flatbuffer" * 10)


def test_the_models_process_has_nothing_of_the_agents_weight() -> None:
    heavy = ("pydantic", "asyncio", "yaml", "paho", "httpx", "cv2", "tensorflow", "edge.models")
    program = f"import sys, edge.inference.process; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
