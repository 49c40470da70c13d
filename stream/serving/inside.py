"""What a Keras file may have in it. Pure.

Loading one can import any module, call any TensorFlow function and read any file that its configuration names: Keras'
safe mode refuses Python code only. The SHA-256 says that a file is the manifest's, not that it means well, and a
signature is not always asked for. So what is served is made of layers that compute, and of nothing else.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from contract.card import MAX_MODEL_BYTES
from stream.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIG: Final = "config.json"
_FILES: Final = frozenset({"metadata.json", _CONFIG, "model.weights.h5"})
# Weights hardly shrink: what does by more is not weights.
_MOST_BYTES: Final = 2 * MAX_MODEL_BYTES
# That of an LSTM of two layers takes 4 KB; read as JSON, it takes many times that.
_MOST_CONFIG_BYTES: Final = 1 << 20
_ENCRYPTED: Final = 1

_LAYERS: Final = """
    InputLayer Dense LSTM GRU LSTMCell GRUCell RNN Bidirectional TimeDistributed RepeatVector Conv1D Conv1DTranspose
    DepthwiseConv1D SeparableConv1D AveragePooling1D MaxPooling1D GlobalAveragePooling1D GlobalMaxPooling1D UpSampling1D
    ZeroPadding1D Cropping1D Flatten Reshape Permute Concatenate Add Subtract Multiply Average Maximum Minimum Dot
    Dropout SpatialDropout1D GaussianNoise BatchNormalization LayerNormalization Normalization Rescaling Activation ReLU
    LeakyReLU ELU PReLU Softmax Masking Attention MultiHeadAttention
    """
_OF_KERAS: Final = {
    "keras": frozenset({"Functional", "Model", "Sequential"}),
    "tf_keras.src.engine.functional": frozenset({"Functional"}),
    "keras.layers": frozenset(_LAYERS.split()),
}
_ANY_OF: Final = frozenset({"keras.initializers", "keras.regularizers", "keras.constraints"})


def check_inside(content: bytes, name: str) -> None:
    """Raises ModelError for what is no Keras file of known layers; `name` is what the error calls it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_entries(archive.infolist(), name)
            config = json.loads(archive.read(_CONFIG))
            found = list(_classes(config))
    # RuntimeError: too deep, or nothing that zipfile knows.
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError) as exc:
        raise ModelError(f"{name}: is no Keras file: {exc}") from exc
    for module, made in found:
        if module not in _ANY_OF and made not in _OF_KERAS.get(module, ()):
            raise ModelError(f"{name}: {module}.{made} in it is none of the layers that are served")


def _check_entries(entries: list[zipfile.ZipInfo], name: str) -> None:
    if {each.filename for each in entries} != _FILES or len(entries) != len(_FILES):
        found = ", ".join(sorted(each.filename[:40] for each in entries[:10]))
        raise ModelError(f"{name}: is no Keras file: it holds {found}: expected are {', '.join(sorted(_FILES))}")
    if (size := sum(each.file_size for each in entries)) > _MOST_BYTES:
        raise ModelError(f"{name}: is {size} bytes when unpacked: allowed are {_MOST_BYTES}")
    for each in entries:
        if each.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} or each.flag_bits & _ENCRYPTED:
            raise ModelError(f"{name}: {each.filename} in it is encrypted or packed by another method than deflate")
        if each.filename == _CONFIG and each.file_size > _MOST_CONFIG_BYTES:
            raise ModelError(f"{name}: {_CONFIG} in it has {each.file_size} bytes: allowed are {_MOST_CONFIG_BYTES}")


def _classes(part: object) -> Iterator[tuple[str, str]]:
    """Module and name of whatever the configuration makes."""
    if isinstance(part, dict):
        if "class_name" in part or "module" in part:
            yield str(part.get("module")), str(part.get("class_name"))
        for each in part.values():
            yield from _classes(each)
    elif isinstance(part, list):
        for each in part:
            yield from _classes(each)
