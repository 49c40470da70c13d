"""TensorFlow and Keras 2, quietly: the one place that imports them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Read when TensorFlow is imported. It is silent, as what goes wrong comes as an exception; a GPU's memory is taken as
# it is needed, since several of Spark's workers share it.
_ENVIRONMENT: Final = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_USE_LEGACY_KERAS": "1",
}


@contextmanager
def _without_stderr() -> Iterator[None]:
    """TensorFlow says what it found before it has read how much it should say."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
with _without_stderr():
    import tensorflow as tf
    import tf_keras as keras

# Spark has a worker for each core, and the small nets of series gain nothing from more threads.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)

__all__ = ["keras", "tf"]
