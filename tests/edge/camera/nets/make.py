"""The nets of this directory, which camera tests write their manifests for: `python tests/edge/camera/nets/make.py`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
DARK = 0.06


def flat(picture: Any) -> Any:
    """A grey picture, whatever it is given."""
    return picture * 0.0 + 0.5


def nan_in_the_dark(picture: Any) -> Any:
    """The same, but no numbers for a dark picture."""
    return flat(picture) + 1e-9 * tf.sqrt(tf.reduce_mean(picture) - DARK)


def hangs_in_the_dark(picture: Any) -> Any:
    """The same, but without an end for a dark picture."""
    mean = tf.reduce_mean(picture)
    told = tf.while_loop(lambda x: x < DARK, lambda x: (x * 1.0,), (mean,))[0]
    return flat(picture) + 1e-9 * told


def converted(compute: Callable[[Any], Any], side: int = 96) -> bytes:
    """A .tflite of a function from a picture to a picture."""
    traced = tf.function(compute, input_signature=[tf.TensorSpec((1, side, side, 1), tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return bytes(converter.convert())


def main() -> None:
    """Writes them."""
    for compute in (flat, nan_in_the_dark, hangs_in_the_dark):
        (HERE / f"{compute.__name__.replace('_', '-')}.tflite").write_bytes(converted(compute))
    (HERE / "small.tflite").write_bytes(converted(flat, side=64))


if __name__ == "__main__":
    main()
