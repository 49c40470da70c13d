"""The Sparkplug B payload: frozen metrics in, bytes out, and back.

`decode` is lenient by metric and strict by payload: bytes that are no payload raise CodecError; a metric
that cannot be read is set aside in `Payload.rejected` with its reason, and the others are kept.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from contract import sparkplug_b_pb2 as pb
from contract.datatypes import ARRAYS, INTEGERS, TEXTS, WIRE_FIELDS, DataType, pack_array, unpack_array, unwrap, wrap
from contract.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contract.datatypes import Scalar, Value

REBIRTH: Final = "Node Control/Rebirth"
BD_SEQ: Final = "bdSeq"
SEQ_MODULUS: Final = 256

# Property names: Quality is Sparkplug's own, the others are those Ignition reads.
QUALITY_PROPERTY: Final = "Quality"
UNIT_PROPERTY: Final = "engUnit"
_OWN_PROPERTIES: Final = frozenset({QUALITY_PROPERTY, UNIT_PROPERTY})


class Quality(IntEnum):
    """Sparkplug's quality codes (Sparkplug 3.0, 6.4.9)."""

    BAD = 0
    GOOD = 192
    STALE = 500


@dataclass(frozen=True, slots=True)
class Property:
    """A typed metric property; `value` None is a null."""

    datatype: DataType
    value: Scalar | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured thing at one time; `value` None is a null."""

    name: str
    datatype: DataType
    value: Value
    timestamp_ms: int
    is_historical: bool = False
    quality: int = Quality.GOOD
    unit: str | None = None
    properties: Mapping[str, Property] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RejectedMetric:
    """A metric that was set aside: where it stood in the payload, what it called itself, and why."""

    index: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Payload:
    """A whole Sparkplug B payload; `seq` is None in an NDEATH."""

    timestamp_ms: int
    metrics: tuple[Metric, ...]
    seq: int | None = None
    rejected: tuple[RejectedMetric, ...] = ()


def encode(payload: Payload) -> bytes:
    """The payload's bytes, the same for equal payloads; raises CodecError for a value its type cannot hold."""
    message = pb.Payload(timestamp=payload.timestamp_ms, metrics=[_metric_to_wire(m) for m in payload.metrics])
    if payload.seq is not None:
        message.seq = payload.seq
    return message.SerializeToString(deterministic=True)


def with_seq(encoded: bytes, seq: int) -> bytes:
    """An encoded payload given its sequence number at the moment it is sent.

    Protobuf fields may come in any order, the last of a kind winning, so appending is enough: what the
    spool keeps need not be decoded to be sent.
    """
    return encoded + pb.Payload(seq=seq).SerializeToString()


def as_historical(encoded: bytes) -> bytes:
    """An encoded payload with every metric marked `is_historical`; raises CodecError when the bytes hold none.

    Nothing else is looked at: a replay after an outage marks thousands of payloads.
    """
    message = _parsed(encoded)
    for metric in message.metrics:
        metric.is_historical = True
    return message.SerializeToString(deterministic=True)


def decode(encoded: bytes) -> Payload:
    """The payload in the bytes; raises CodecError when they hold none."""
    message = _parsed(encoded)
    metrics: list[Metric] = []
    rejected: list[RejectedMetric] = []
    for index, wire in enumerate(message.metrics):
        try:
            metrics.append(_metric_from_wire(wire, message.timestamp))
        except CodecError as exc:
            rejected.append(RejectedMetric(index, _shown(wire.name), str(exc)))
    return Payload(
        timestamp_ms=message.timestamp,
        metrics=tuple(metrics),
        seq=message.seq if message.HasField("seq") else None,
        rejected=tuple(rejected),
    )


def is_text(text: object) -> bool:
    """Whether a text on the wire is UTF-8: protobuf gives any other as bytes."""
    return isinstance(text, str)


def _shown(text: str | bytes) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text


def _parsed(encoded: bytes) -> pb.Payload:
    try:
        return pb.Payload.FromString(encoded)
    except DecodeError as exc:
        raise CodecError(f"not a Sparkplug B payload ({len(encoded)} bytes): {exc}") from exc


def _metric_to_wire(metric: Metric) -> pb.Metric:
    wire = pb.Metric(name=metric.name, timestamp=metric.timestamp_ms, datatype=metric.datatype)
    if metric.is_historical:
        wire.is_historical = True
    if metric.value is None:
        wire.is_null = True
    else:
        _set_value(wire, metric.datatype, metric.value)
    for key, prop in _all_properties(metric):
        wire.properties.keys.append(key)
        wire.properties.values.append(_property_to_wire(prop))
    return wire


def _all_properties(metric: Metric) -> Iterable[tuple[str, Property]]:
    if metric.quality != Quality.GOOD:
        yield QUALITY_PROPERTY, Property(DataType.INT32, metric.quality)
    if metric.unit is not None:
        yield UNIT_PROPERTY, Property(DataType.STRING, metric.unit)
    yield from metric.properties.items()


def _property_to_wire(prop: Property) -> pb.PropertyValue:
    wire = pb.PropertyValue(type=prop.datatype)
    if prop.value is None:
        wire.is_null = True
    else:
        _set_value(wire, prop.datatype, prop.value)
    return wire


def _set_value(wire: pb.Metric | pb.PropertyValue, datatype: DataType, value: Value) -> None:
    try:
        setattr(wire, WIRE_FIELDS[datatype], _to_wire(datatype, value))
    except KeyError:
        raise CodecError(f"{datatype.name} is not written by Headwater") from None
    except (TypeError, ValueError, AttributeError, struct.error) as exc:
        raise CodecError(f"{datatype.name} cannot hold {value!r}: {exc}") from exc


def _to_wire(datatype: DataType, value: Value) -> Scalar:
    if datatype in INTEGERS and isinstance(value, int):
        return wrap(value, datatype)
    if datatype in ARRAYS and isinstance(value, tuple):
        return pack_array(value, datatype)
    if isinstance(value, tuple) or value is None:
        raise CodecError(f"{datatype.name} cannot hold {value!r}")
    return value


def _metric_from_wire(wire: pb.Metric, payload_timestamp_ms: int) -> Metric:
    if not wire.name:
        alias = f" (alias {wire.alias})" if wire.HasField("alias") else ""
        raise CodecError(f"a metric has no name{alias}: a name is required in every message")
    if not is_text(wire.name):
        raise CodecError(f"a metric's name is not UTF-8: {wire.name!r}")
    datatype = _datatype(wire.datatype, f"metric {wire.name!r}")
    properties = _properties_from_wire(wire.properties)
    quality = properties.get(QUALITY_PROPERTY)
    unit = properties.get(UNIT_PROPERTY)
    return Metric(
        name=wire.name,
        datatype=datatype,
        value=None if wire.is_null else _value_from_wire(wire, datatype, f"metric {wire.name!r}"),
        # Sparkplug lets a metric leave its time to the payload's.
        timestamp_ms=wire.timestamp if wire.HasField("timestamp") else payload_timestamp_ms,
        is_historical=wire.is_historical,
        quality=quality.value if quality and isinstance(quality.value, int) else Quality.GOOD,
        unit=unit.value if unit and isinstance(unit.value, str) else None,
        properties={key: prop for key, prop in properties.items() if key not in _OWN_PROPERTIES},
    )


def _properties_from_wire(wire: pb.PropertySet) -> dict[str, Property]:
    if len(wire.keys) != len(wire.values):
        raise CodecError(f"{len(wire.keys)} property names for {len(wire.values)} values")
    properties = {}
    for key, value in zip(wire.keys, wire.values, strict=True):
        try:
            properties[_shown(key)] = _property_from_wire(key, value)
        except CodecError:
            # A property that cannot be read is no reason to lose the value, unless it may be what calls the value bad.
            if key == QUALITY_PROPERTY:
                raise
    return properties


def _property_from_wire(key: str, wire: pb.PropertyValue) -> Property:
    datatype = _datatype(wire.type, f"property {key!r}")
    if wire.is_null:
        return Property(datatype, None)
    value = _value_from_wire(wire, datatype, f"property {key!r}")
    if isinstance(value, tuple):
        raise CodecError(f"property {key!r} is an array: allowed are scalars")
    return Property(datatype, value)


def _datatype(number: int, where: str) -> DataType:
    try:
        return DataType(number)
    except ValueError:
        raise CodecError(f"{where}: unknown datatype {number}, allowed are 1 to 34") from None


def _value_from_wire(wire: pb.Metric | pb.PropertyValue, datatype: DataType, where: str) -> Value:
    carried = wire.WhichOneof("value")
    if datatype not in WIRE_FIELDS:
        raise CodecError(f"{where}: {datatype.name} is not read by Headwater")
    if carried is None:
        raise CodecError(f"{where}: no value and not marked null")
    value = getattr(wire, carried)
    if datatype in INTEGERS and carried in {"int_value", "long_value"}:
        # Tahu and Ignition carry UInt32 in long_value, so either integer field is read.
        return unwrap(value, datatype)
    if carried != WIRE_FIELDS[datatype]:
        raise CodecError(f"{where}: {datatype.name} carried in {carried}, allowed is {WIRE_FIELDS[datatype]}")
    if datatype in TEXTS and not is_text(value):
        raise CodecError(f"{where}: {datatype.name} that is not UTF-8")
    return unpack_array(value, datatype) if datatype in ARRAYS else value
