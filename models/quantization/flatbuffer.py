"""What is in a .tflite file: its operators, of which versions, and of what types their tensors are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ai_edge_litert import schema_py_generated as schema

from models.errors import ConversionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_IDENTIFIER: Final = b"TFL3"
# Operators beyond the 127th are told in a field that came later; the older one then has this in it.
_LATER_FIELD: Final = 127
_DENSE: Final = frozenset({"FULLY_CONNECTED", "CONV_2D", "TRANSPOSE_CONV"})


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a graph: `reads` and `writes` are the types of its tensors, such as INT8."""

    name: str
    version: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The whole of a model.

    `last_layer` names what the last operator with weights gives, and those after it. `first_int8` is (scale, zero
    point) of the first int8 tensor that is computed, if any.
    """

    operators: tuple[Operator, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    last_layer: tuple[str, ...]
    first_int8: tuple[float, int] | None

    def count(self, name: str) -> int:
        """How many operators of this name it has."""
        return sum(each.name == name for each in self.operators)


def read_graph(content: bytes) -> Graph:
    """The graph of a .tflite; raises ConversionError where it is not one of one graph, one input and one output."""
    if content[4:8] != _IDENTIFIER:
        raise ConversionError("is not a TFLite model")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    if len(model.subgraphs) != 1:
        raise ConversionError(f"has {len(model.subgraphs)} graphs, allowed is one: something in it is a loop")
    (graph,) = model.subgraphs
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ConversionError(
            f"has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, allowed is one of each"
        )
    return Graph(
        operators=tuple(_operator(model, graph, each) for each in graph.operators),
        input_shape=_shape(graph.tensors[graph.inputs[0]]),
        output_shape=_shape(graph.tensors[graph.outputs[0]]),
        last_layer=_last_layer(model, graph),
        first_int8=_first_int8(graph),
    )


def settled(content: bytes) -> bytes:
    """The same model with zeros where nobody looks: the converter leaves there what its memory happened to hold."""
    writable = bytearray(content)
    model = schema.Model.GetRootAs(writable, 0)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    used = {graph.Tensors(index).Buffer() for graph in graphs for index in range(graph.TensorsLength())}
    used |= {model.Metadata(index).Buffer() for index in range(model.MetadataLength())}
    for index in set(range(model.BuffersLength())) - used:
        if model.Buffers(index).DataLength():
            model.Buffers(index).DataAsNumpy()[:] = 0
    return bytes(writable)


def _operator(model: Any, graph: Any, operator: Any) -> Operator:  # noqa: ANN401 - generated code without types
    code = model.operatorCodes[operator.opcodeIndex]

    def types(indices: NDArray[np.int32]) -> tuple[str, ...]:
        # -1 stands for an optional tensor that is not there.
        return tuple(_TYPES[graph.tensors[index].type] for index in indices if index >= 0)

    return Operator(_name(code), code.version, types(operator.inputs), types(operator.outputs))


def _name(code: Any) -> str:  # noqa: ANN401 - as above
    number = code.builtinCode if code.deprecatedBuiltinCode == _LATER_FIELD else code.deprecatedBuiltinCode
    return str(code.customCode.decode()) if code.customCode else _OPERATORS.get(number, str(number))


def _last_layer(model: Any, graph: Any) -> tuple[str, ...]:  # noqa: ANN401 - as above
    names = [_name(model.operatorCodes[each.opcodeIndex]) for each in graph.operators]
    last = max((place for place, name in enumerate(names) if name in _DENSE), default=len(names))
    return tuple(graph.tensors[each.outputs[0]].name.decode() for each in graph.operators[last:])


def _first_int8(graph: Any) -> tuple[float, int] | None:  # noqa: ANN401 - as above
    computed = [graph.inputs[0], *(index for each in graph.operators for index in each.outputs)]
    for index in computed:
        if graph.tensors[index].type == schema.TensorType.INT8:
            found = graph.tensors[index].quantization
            return float(found.scale[0]), int(found.zeroPoint[0])
    return None


def _shape(tensor: Any) -> tuple[int, ...]:  # noqa: ANN401 - as above
    told = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return tuple(int(size) for size in told)


def _names(enumeration: type) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if not name.startswith("_")}


_OPERATORS: Final = _names(schema.BuiltinOperator)
_TYPES: Final = _names(schema.TensorType)
