"""Makes the two models of this folder, and the small ones that tests/edge/models tries the agent with.

Where the extra `models` is installed, which has TensorFlow:

    PYTHONPATH=. python bench/edge/models/make.py

Two minutes on two cores. The data is the simulated plant's; `models/` trains and judges in earnest.

tank-forecast: an LSTM of 32 units over 60 s of five signals; the clean-water level 5, 15 and 30 s on, three quantiles.
pump-anomaly: a convolutional autoencoder over 60 s of eight signals of the pumps.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="2", CUDA_VISIBLE_DEVICES="-1")

import numpy as np
import tensorflow as tf
import tf_keras as keras

from simulators.plant.process import NOISE_COUNT, Effects, advance, first_line
from simulators.plant.readings import SET_POINTS, quantities

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("make")

HERE = Path(__file__).parent
NETS = HERE.parents[2] / "tests" / "edge" / "models" / "nets"
BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
STEP_S, DAY_S = 1.0, 3600.0
LENGTH = 60
HORIZONS = (5, 15, 30)
QUANTILES = (0.1, 0.5, 0.9)
TANK = ("tank2/level", "tank1/level", "intake/flow", "pump1/flow", "pump2/flow")
PUMPS = tuple(f"pump{n}/{name}" for n in (1, 2) for name in ("speed", "current", "bearing_temperature", "vibration"))
UNITS = {"level": "m", "flow": "m3/h", "speed": "rpm", "current": "A", "bearing_temperature": "degC"}
UNITS["vibration"] = "mm/s"
FALSE_ALARMS = 0.001


def plant(seed: int, steps: int, effects: Effects | None = None) -> np.ndarray:
    """What the plant shows: steps x (TANK and PUMPS)."""
    noise = random.Random(seed)  # noqa: S311 - data, not a secret
    points = {name: point.default for name, point in SET_POINTS.items()}
    line = first_line([0.0] * NOISE_COUNT)
    rows = []
    for step in range(steps):
        if step % 300 == 0:  # an operator who moves the set points now and then
            points |= {f"tank{n}/level_setpoint": noise.uniform(2.0, 4.0) for n in (1, 2)}
        gauss = [noise.gauss(0, 1) for _ in range(NOISE_COUNT)]
        line = advance(line, points, effects or Effects(), gauss, STEP_S, DAY_S)
        shown = quantities(line, points)
        rows.append([float(shown[name]) for name in TANK + PUMPS])
    return np.array(rows[600:], np.float32)


def windows(rows: np.ndarray, length: int, every: int) -> np.ndarray:
    """Windows x length x columns."""
    return np.stack([rows[i : i + length] for i in range(0, len(rows) - length + 1, every)])


def forecast_net(batch: int | None) -> keras.Model:
    """How far the level will be from where it is; the converter makes one fused operator of the LSTM."""
    window = keras.Input((LENGTH, len(TANK)), batch_size=batch)
    state = keras.layers.LSTM(32)(window)
    return keras.Model(window, keras.layers.Dense(len(HORIZONS) * len(QUANTILES))(state))


def anomaly_net(batch: int | None) -> keras.Model:
    """60 x 8 through 15 x 6 and back."""
    window = keras.Input((LENGTH, len(PUMPS)), batch_size=batch)
    x = keras.layers.Conv1D(16, 5, 2, "same", activation="relu")(window)
    x = keras.layers.Conv1D(6, 5, 2, "same", activation="relu")(x)
    # Twice the channels and half the steps are the same numbers; UpSampling1D becomes dozens of operators.
    x = keras.layers.Reshape((LENGTH // 2, 16))(keras.layers.Conv1D(32, 5, 1, "same", activation="relu")(x))
    x = keras.layers.Reshape((LENGTH, len(PUMPS)))(keras.layers.Conv1D(2 * len(PUMPS), 5, 1, "same")(x))
    return keras.Model(window, x)


def pinball(truth: tf.Tensor, told: tf.Tensor) -> tf.Tensor:
    """Mean over horizons and quantiles; `told` is [batch, horizons x quantiles], `truth` [batch, horizons]."""
    told = tf.reshape(told, (-1, len(HORIZONS), len(QUANTILES)))
    error = truth[:, :, None] - told
    shares = tf.constant(QUANTILES)
    return tf.reduce_mean(tf.maximum(shares * error, (shares - 1) * error))


def convert(net: keras.Model, samples: np.ndarray | None, *, per_channel: bool = False) -> bytes:
    """A .tflite of built-in operators; int8 within and float32 at both ends where there are samples to calibrate by."""
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([sample[None]] for sample in samples)
    elif per_channel:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # Per channel, a dense layer is an operator of a version that tflite-runtime 2.14 does not know.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel  # noqa: SLF001 - the only way
    return bytes(converter.convert())


def run(content: bytes, sample: np.ndarray) -> np.ndarray:
    """One window through the converted model."""
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    interpreter.reset_all_variables()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None].astype(np.float32))
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))[0]


def twin(build: Callable[[int | None], keras.Model], net: keras.Model) -> keras.Model:
    """The same net for a batch of one: with any other batch the converter leaves the built-in operators."""
    single = build(1)
    single.set_weights(net.get_weights())
    return single


def scaled(names: tuple[str, ...], rows: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The manifest's inputs and features, which are the same, and mean and scale of each."""
    mean, scale = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-3)
    units = [UNITS[name.rpartition("/")[2]] for name in names]
    inputs = [{"name": name, "unit": unit, "resample": "mean"} for name, unit in zip(names, units, strict=True)]
    features = [
        {"name": name, "unit": unit, "mean": float(m), "scale": float(s), "of": [name]}
        for name, unit, m, s in zip(names, units, mean, scale, strict=True)
    ]
    return {"inputs": inputs, "features": features}, mean, scale


def write(name: str, document: dict[str, Any], forms: dict[str, bytes], rows: np.ndarray) -> None:
    """A model's folder."""
    directory = HERE / name
    directory.mkdir(exist_ok=True)
    files = []
    for form, content in forms.items():
        (directory / f"{form}.tflite").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append({"form": form, "file": f"{form}.tflite", "sha256": digest, "size_bytes": len(content)})
    training = {
        "from_at": BEGIN.isoformat(),
        "to_at": (BEGIN + dt.timedelta(seconds=len(rows) * STEP_S)).isoformat(),
        "windows": len(rows) // 5,
        "source": "simulators.plant, seed 1",
        "sha256": hashlib.sha256(rows.tobytes()).hexdigest(),
    }
    window = {"length": LENGTH, "step_s": STEP_S, "max_bad_share": 0.1}
    manifest = {"format": 1, "name": name, "version": "1.0.0", **document, "window": window, "files": files}
    text = json.dumps(manifest | {"training": training}, indent=2)
    (directory / "manifest.json").write_text(text + "\n", encoding="utf-8")
    logger.info("%s: %s", name, {form: len(content) for form, content in forms.items()})


def make_forecast(rows: np.ndarray, unseen: np.ndarray) -> None:
    """tank-forecast."""
    view, mean, scale = scaled(TANK, rows)

    def pairs(raw: np.ndarray, every: int) -> tuple[np.ndarray, np.ndarray]:
        whole = windows(raw, LENGTH + HORIZONS[-1], every)
        changes = whole[:, [LENGTH - 1 + horizon for horizon in HORIZONS], 0] - whole[:, LENGTH - 1, :1]
        return (whole[:, :LENGTH] - mean) / scale, changes

    net = forecast_net(None)
    net.compile(keras.optimizers.Adam(3e-3), pinball)
    x, y = pairs(rows, 5)
    change = float(y.std())
    net.fit(x, y / change, batch_size=64, epochs=15, verbose=2)
    x_unseen, y_unseen = pairs(unseen, 7)
    last_value = np.zeros((len(y_unseen), len(HORIZONS) * len(QUANTILES)), np.float32)
    single = twin(forecast_net, net)
    forms = {"float32": convert(single, None), "int8": convert(single, x[::20])}
    told = {form: np.stack([run(content, w) for w in x_unseen]) * change for form, content in forms.items()}
    exact = net(x_unseen).numpy() * change
    write(
        "tank-forecast",
        {
            "description": "Level of the clean-water tank over the next half minute",
            **view,
            "output": {
                "kind": "forecast",
                "targets": [{"name": "level", "unit": "m", "scale": change, "of": [TANK[0]], "relative": "difference"}],
                "horizons": HORIZONS,
                "quantiles": QUANTILES,
            },
            "metrics": {
                "last_value_pinball_m": float(pinball(y_unseen, last_value)),
                **{f"{form}_pinball_m": float(pinball(y_unseen, each)) for form, each in told.items()},
                **{f"{form}_max_error_m": float(np.abs(each - exact).max()) for form, each in told.items()},
            },
        },
        forms,
        rows,
    )


def make_anomaly(rows: np.ndarray, unseen: np.ndarray, worn: np.ndarray) -> None:
    """pump-anomaly."""
    view, mean, scale = scaled(PUMPS, rows)
    x, x_unseen, x_worn = (windows((each - mean) / scale, LENGTH, 5) for each in (rows, unseen, worn))
    net = anomaly_net(None)
    net.compile(keras.optimizers.Adam(3e-3), "mse")
    net.fit(x, x, batch_size=64, epochs=20, verbose=2)
    single = twin(anomaly_net, net)
    # Calibrated by normal windows alone, the int8 form would clip what is not normal.
    samples = x[::20].copy()
    samples[::2] *= np.linspace(1, 5, len(samples[::2]), dtype=np.float32)[:, None, None]
    forms = {"float32": convert(single, None), "int8": convert(single, samples)}

    def scores(content: bytes, each: np.ndarray) -> np.ndarray:
        return np.array([np.square(run(content, w) - w).mean() for w in each])

    threshold = float(np.quantile(np.concatenate([scores(c, x_unseen) for c in forms.values()]), 1 - FALSE_ALARMS))
    write(
        "pump-anomaly",
        {
            "description": "Whether the pumps behave as they do when nothing is worn",
            **view,
            "output": {"kind": "anomaly", "score": "reconstruction", "threshold": threshold, "clear": 0.7 * threshold},
            "metrics": {
                "false_alarm_rate": FALSE_ALARMS,
                **{f"{form}_recall_worn": float((scores(c, x_worn) > threshold).mean()) for form, c in forms.items()},
            },
        },
        forms,
        rows,
    )


def function_model(compute: Callable[[tf.Tensor], tf.Tensor], shape: tuple[int, ...] = (1, LENGTH, len(TANK))) -> bytes:
    """A .tflite of a function from the window to a tensor."""
    traced = tf.function(compute, input_signature=[tf.TensorSpec(shape, tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return bytes(converter.convert())


def hang(window: tf.Tensor) -> tf.Tensor:
    """Well for windows whose first value is below 5, and without an end for others."""
    first = tf.reduce_sum(window[:, 0, 0])
    told = tf.while_loop(lambda x: x >= 5.0, lambda x: (x + 1.0,), (first,))[0]  # noqa: PLR2004 - as the docstring says
    return tf.reshape(tf.concat([tf.reshape(told, (1,)), tf.zeros((8,))], 0), (1, 9))


def turn_nan(window: tf.Tensor) -> tf.Tensor:
    """Well for windows whose first value is below 5, and not a number for others."""
    told = tf.sqrt(5.0 - tf.reduce_sum(window[:, 0, 0]))
    return tf.reshape(tf.concat([tf.reshape(told, (1,)), tf.zeros((8,))], 0), (1, 9))


def eat(window: tf.Tensor) -> tf.Tensor:
    """Needs 4 GiB, whatever it is given."""
    big = tf.tile(tf.reshape(window, (-1, 1)), (1, (1 << 30) // (LENGTH * len(TANK))))
    return tf.reshape(tf.reduce_sum(tf.sin(big), axis=0)[:9], (1, 9))


def make_nets() -> None:
    """Models for the tests, which write their manifests; with most of them something is wrong."""
    NETS.mkdir(parents=True, exist_ok=True)
    echo = function_model(lambda window: tf.reshape(window * 1.0, (1, 8)), (1, 4, 2))
    contents = {
        "echo": echo,
        "steady": function_model(lambda window: tf.reshape(window[:, -9:, 0] * 1.0, (1, 9))),
        "crashes": garbled(echo),
        "hangs": function_model(hang),
        "turns-nan": function_model(turn_nan),
        "eats-memory": function_model(eat),
        "remembers": convert(remembering_net(), None),
        "newer": convert(deeper_net(), None, per_channel=True),
        "two-inputs": function_model_of_two(),
    }
    for name, content in contents.items():
        (NETS / f"{name}.tflite").write_bytes(content)
    logger.info("nets: %s", {name: len(content) for name, content in contents.items()})


def remembering_net() -> keras.Model:
    """An LSTM that forgets nothing within a window of 4 x 2, and tells 8 numbers."""
    window = keras.Input((4, 2), batch_size=1)
    lstm = keras.layers.LSTM(4, bias_initializer=lambda shape, dtype: tf.fill(shape, tf.cast(3.0, dtype)))
    return keras.Model(window, keras.layers.Dense(8)(lstm(window)))


def deeper_net() -> keras.Model:
    """With a dense layer so large that its weights are quantized."""
    window = keras.Input((LENGTH, len(TANK)), batch_size=1)
    return keras.Model(window, keras.layers.Dense(9)(keras.layers.Dense(64)(keras.layers.LSTM(32)(window))))


def garbled(content: bytes) -> bytes:
    """A model that ends the process that runs it (SIGSEGV in tflite-runtime 2.14), as half of all such changes do."""
    noise, changed = random.Random(1451), bytearray(content)  # noqa: S311 - not a secret
    for _ in range(noise.randint(1, 4)):
        changed[noise.randrange(len(changed))] = noise.randrange(256)
    return bytes(changed)


def function_model_of_two() -> bytes:
    """A model with two inputs."""
    spec = tf.TensorSpec((1, LENGTH, len(TANK)), tf.float32)
    traced = tf.function(lambda a, b: tf.reshape((a + b)[:, :9, 0], (1, 9)), input_signature=[spec, spec])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], tf.Module())
    return bytes(converter.convert())


def main() -> None:
    """Makes everything; the same on every run of the same TensorFlow."""
    logging.basicConfig(level=logging.INFO)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    rows, unseen, worn = plant(1, 15_000), plant(2, 5_000), plant(3, 2_000, Effects(wear_per_s=(1 / 600, 0.0)))
    tank, pumps = slice(0, len(TANK)), slice(len(TANK), None)
    make_forecast(rows[:, tank], unseen[:, tank])
    make_anomaly(rows[:, pumps], unseen[:, pumps], worn[:, pumps])
    make_nets()


if __name__ == "__main__":
    main()
