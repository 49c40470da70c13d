"""Aliases: a number that stands for a metric's name from its birth on, and the payload written out by name.

Sparkplug lets a node leave names and data types out of its DATA once a birth has told them. Whoever reads such a
payload needs the births that came before it; written out, it needs nothing. An alias is unique in its node, but some
nodes count anew for each device: so each birth's names are kept, and asked, by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from contract import sparkplug_b_pb2 as pb
from contract.errors import CodecError
from contract.sparkplug import BD_SEQ, SEQ_MODULUS, is_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NAME_CHARACTERS: Final = 1024
# What a metric takes in memory beside its name: two dict entries, a tuple, an int and a str, measured.
_METRIC_BYTES: Final = 400


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """What one birth told: the name and data type behind each alias, and the data type of each name.

    `size_bytes` is about what they take in memory.
    """

    by_alias: dict[int, tuple[str, int]]
    datatypes: dict[str, int]
    size_bytes: int

    def __len__(self) -> int:
        return len(self.datatypes)


@dataclass(frozen=True, slots=True)
class WrittenOut:
    """A DATA payload by name: how many of its metrics say all, and which of the others a birth may explain."""

    encoded: bytes
    readable: int
    unknown: tuple[str, ...]


def parse(encoded: bytes) -> pb.Payload | None:
    """The payload in the bytes, None where they hold none."""
    try:
        return pb.Payload.FromString(encoded)
    except DecodeError:
        return None


def sequence_number(payload: pb.Payload) -> int | None:
    """A payload's `seq`, None where it has none."""
    return payload.seq % SEQ_MODULUS if payload.HasField("seq") else None


def birth_number(payload: pb.Payload) -> int | None:
    """The `bdSeq` of a birth or death, None where it has none; whichever integer field carries it is read."""
    for metric in payload.metrics:
        if metric.name == BD_SEQ:
            return {"int_value": metric.int_value, "long_value": metric.long_value}.get(
                metric.WhichOneof("value") or ""
            )
    return None


def names_of(birth: pb.Payload, max_metrics: int) -> Names:
    """What a birth tells of its first `max_metrics` metrics.

    An alias that stands for two names stands for neither: better set aside than wrongly named.
    """
    by_alias: dict[int, tuple[str, int]] = {}
    datatypes: dict[str, int] = {}
    twice: set[int] = set()
    size_bytes = 0
    for metric in birth.metrics[:max_metrics]:
        name = metric.name
        if not name or not is_text(name) or len(name) > MAX_NAME_CHARACTERS:
            continue
        datatypes[name] = metric.datatype
        size_bytes += _METRIC_BYTES + len(name)
        if metric.HasField("alias"):
            known = by_alias.setdefault(metric.alias, (name, metric.datatype))
            if known[0] != name:
                twice.add(metric.alias)
    for alias in twice:
        del by_alias[alias]
    return Names(by_alias, datatypes, size_bytes)


def write_out(encoded: bytes, payload: pb.Payload, names: Names | None, max_bytes: int) -> WrittenOut:
    """A DATA payload in which every metric that `names` knows has its name and its data type.

    `payload` is what `encoded` holds, and is changed; where nothing is left out `encoded` itself is the result. Raises
    CodecError when the names would make it larger than `max_bytes`: a few bytes each can stand for long names.
    """
    size_bytes, changed, readable = len(encoded), False, len(payload.metrics)
    unknown: list[str] = []
    for metric, name, datatype in _left_out(payload, names):
        if name is None or not datatype:
            readable -= 1
            if not metric.name and not metric.HasField("alias"):
                continue  # no birth can tell what that is
            unknown.append(f"alias {metric.alias}" if metric.HasField("alias") else repr(metric.name[:80]))
            continue
        size_bytes += len(name)
        if size_bytes > max_bytes:
            raise CodecError(f"more than {max_bytes} bytes when its names are written out")
        metric.name, metric.datatype = name, datatype
        metric.ClearField("alias")
        changed = True
    return WrittenOut(payload.SerializeToString() if changed else encoded, readable, tuple(unknown))


def _left_out(payload: pb.Payload, names: Names | None) -> Iterator[tuple[pb.Metric, str | None, int]]:
    """The metrics that lack a name or a data type, with what is known of them."""
    for metric in payload.metrics:
        if metric.name and metric.datatype:
            continue
        if metric.name:
            yield metric, metric.name, names.datatypes.get(metric.name, 0) if names else 0
        elif names is not None and metric.HasField("alias"):
            name, datatype = names.by_alias.get(metric.alias, (None, 0))
            yield metric, name, metric.datatype or datatype
        else:
            yield metric, None, 0
