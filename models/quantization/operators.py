"""Which operators a device's runtime has, and whether a model keeps to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from models.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.quantization.flatbuffer import Graph, Operator

OLDEST_RUNTIME: Final = "tflite-runtime 2.14"

# By the newest version of them that tflite-runtime 2.14.0 has: found by offering it every operator in every version,
# which a test does again. Later runtimes have them all, in these versions and newer ones.
_OLDEST_HAS: Final = {
    1: """
        ADD_N ASSIGN_VARIABLE ATAN2 BITCAST BITWISE_XOR BROADCAST_ARGS BUCKETIZE CALL_ONCE CEIL COMPLEX_ABS CONV_3D
        CONV_3D_TRANSPOSE COS CUMSUM DENSIFY DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP_SPARSE EXPAND_DIMS FLOOR
        HARD_SWISH HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE IF IMAG L2_POOL_2D
        LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LSH_PROJECTION MATRIX_DIAG MATRIX_SET_DIAG
        MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 ONE_HOT POW PRELU RANDOM_STANDARD_NORMAL
        RANDOM_UNIFORM RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY RELU_0_TO_1 RELU_N1_TO_1 RESHAPE REVERSE_SEQUENCE
        RFFT2D RIGHT_SHIFT ROUND SCATTER_ND SEGMENT_SUM SHAPE SIN SKIP_GRAM SQRT SQUARE UNIQUE UNSORTED_SEGMENT_MAX
        UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM VAR_HANDLE WHILE ZEROS_LIKE
    """,
    2: """
        DEPTH_TO_SPACE DIV EXP FAKE_QUANT FLOOR_MOD GELU GREATER L2_NORMALIZATION LEAKY_RELU LESS_EQUAL LOG_SOFTMAX
        RANGE REDUCE_PROD RSQRT SELECT_V2 SIGN SPACE_TO_DEPTH SPLIT_V SQUARED_DIFFERENCE SQUEEZE SUM WHERE
    """,
    3: """
        ARG_MAX ARG_MIN AVERAGE_POOL_2D BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN BROADCAST_TO
        EMBEDDING_LOOKUP FLOOR_DIV GREATER_EQUAL LESS LOGISTIC MAX_POOL_2D MEAN MIRROR_PAD NOT_EQUAL QUANTIZE REDUCE_MAX
        REDUCE_MIN RELU RELU6 REVERSE_V2 RNN SOFTMAX SPARSE_TO_DENSE TANH TILE TOPK_V2 UNIDIRECTIONAL_SEQUENCE_RNN
    """,
    4: """
        BATCH_MATMUL BATCH_TO_SPACE_ND CONCATENATION EQUAL FILL GATHER_ND LSTM MAXIMUM MINIMUM PACK PAD PADV2
        RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SELECT SPACE_TO_BATCH_ND SPLIT SVDF TRANSPOSE_CONV
        UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK
    """,
    5: "ABS ADD CAST DEQUANTIZE SUB",
    6: "GATHER SLICE TRANSPOSE",
    7: "CONV_2D DEPTHWISE_CONV_2D MUL",
    8: "STRIDED_SLICE",
    10: "FULLY_CONNECTED",
}
NEWEST_VERSION: Final = {name: version for version, names in _OLDEST_HAS.items() for name in names.split()}

# What only brings numbers from one type to another.
_BETWEEN_TYPES: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})


def check_operators(graph: Graph) -> None:
    """Raises ConversionError unless the oldest runtime has every operator, in the version that the graph has."""
    if faults := list(dict.fromkeys(filter(None, map(_fault, graph.operators)))):
        raise ConversionError("; ".join(faults))


def check_lstm(graph: Graph, layers: int) -> None:
    """Raises ConversionError unless each LSTM layer is one fused operator."""
    if (found := graph.count("UNIDIRECTIONAL_SEQUENCE_LSTM")) != layers:
        raise ConversionError(
            f"has {found} fused LSTM operators for {layers} LSTM layers: the rest are loops, slow and not for int8"
        )


def check_int8(graph: Graph, *, wide: bool) -> None:
    """Raises ConversionError unless it calculates in whole numbers; `wide`: all but the layer that comes last."""
    layers = [each for each in graph.operators if each.name not in _BETWEEN_TYPES]
    unquantized = [each.name for each in layers if "FLOAT32" in each.reads + each.writes]
    allowed = [each.name for each in layers[len(layers) - len(unquantized) :]] if wide else []
    if unquantized != allowed or len(unquantized) == len(layers):
        raise ConversionError(f"{', '.join(unquantized)} still with float32: it was not quantized")


def check_shape(graph: Graph, shape: Sequence[int]) -> None:
    """Raises ConversionError unless it takes one window, of this fixed shape."""
    if graph.input_shape != (1, *shape):
        raise ConversionError(f"takes {_shown(graph.input_shape)}, wanted is {_shown((1, *shape))}")


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _fault(operator: Operator) -> str | None:
    newest = NEWEST_VERSION.get(operator.name)
    if newest is None:
        return f"{operator.name} is none of the built-in operators of {OLDEST_RUNTIME}"
    if operator.version > newest:
        return f"{operator.name} is of version {operator.version}, {OLDEST_RUNTIME} has up to {newest}"
    return None
