"""What faults of the line make of an answer: another frame, other bytes, other times. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from simulators.plant.framing import RtuFraming
from simulators.plant.line_faults import (
    Corrupt,
    Dribble,
    Duplicate,
    Garbage,
    Late,
    ShortAnswer,
    SlowReply,
    Truncated,
    WrongFunction,
    WrongTransaction,
    WrongUnit,
)
from simulators.plant.pdu import READS

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from simulators.plant.framing import Frame, Framing
    from simulators.plant.line_faults import LineFault


class Piece(NamedTuple):
    """Bytes that go out so long after those before them."""

    delay_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """How an answer goes out.

    `is_true`: a client may take it for what it asked for, and then has the truth. `holds_line`: later requests wait
    until it is out.
    """

    pieces: Sequence[Piece] = field(default_factory=tuple)
    is_true: bool = True
    holds_line: bool = True


def deliver(frame: Frame, faults: Iterable[LineFault], framing: Framing, rng: random.Random) -> Delivery:
    """The delivery of an answer under faults; those of the frame come before those of its bytes, each in its order."""
    faults = list(faults)
    bent = frame
    for fault in faults:
        bent = _bend(bent, fault, framing, rng)
    delivery = Delivery((Piece(0.0, framing.build(bent)),), is_true=bent == frame)
    for fault in faults:
        delivery = _spoil(delivery, fault, framing, rng)
    return delivery


def _bend(frame: Frame, fault: LineFault, framing: Framing, rng: random.Random) -> Frame:
    unit_id, pdu, transaction = frame
    match fault:
        case WrongUnit():
            return frame._replace(unit_id=unit_id ^ rng.randint(1, 255), pdu=_another(pdu, rng))
        case WrongTransaction() if not isinstance(framing, RtuFraming):
            return frame._replace(transaction=transaction ^ rng.randint(1, 0xFFFF), pdu=_another(pdu, rng))
        case WrongFunction():
            functions = sorted(READS.keys() - {pdu[0] & 0x7F})
            return frame._replace(pdu=bytes((rng.choice(functions),)) + _another(pdu, rng)[1:])
        case ShortAnswer() if pdu[0] in READS:
            left = pdu[2 : 2 + max(pdu[1] - 2, 1)] if pdu[1] > 1 else b""
            return frame._replace(pdu=bytes((pdu[0], len(left))) + left)
        case _:
            return frame


def _another(pdu: bytes, rng: random.Random) -> bytes:
    """An answer of the same shape with other content: whoever takes it has wrong values."""
    return pdu[:2] + rng.randbytes(len(pdu) - 2)


def _spoil(delivery: Delivery, fault: LineFault, framing: Framing, rng: random.Random) -> Delivery:
    pieces = delivery.pieces
    match fault:
        case Late() | SlowReply():
            holds_line = delivery.holds_line and isinstance(fault, SlowReply)
            return replace(delivery, pieces=_after(fault.delay_s, pieces), holds_line=holds_line)
        case Truncated():
            return replace(delivery, pieces=_cut(pieces, rng), is_true=False)
        case Corrupt() if isinstance(framing, RtuFraming):
            return replace(delivery, pieces=_flip(pieces, rng), is_true=False)
        case _:
            return replace(delivery, pieces=_padded(pieces, fault, rng))


def _padded(pieces: Sequence[Piece], fault: LineFault, rng: random.Random) -> Sequence[Piece]:
    """The pieces as they come under faults that add to an answer or take it apart."""
    match fault:
        case Duplicate():
            return _twice(pieces, fault.delay_s)
        case Dribble():
            return _dribble(pieces, fault.pause_s)
        case Garbage():
            junk = Piece(pieces[0].delay_s, rng.randbytes(rng.randint(1, fault.most)))
            return (junk, pieces[0]._replace(delay_s=0.0), *pieces[1:])
        case _:
            return pieces


def _after(delay_s: float, pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    return (Piece(pieces[0].delay_s + delay_s, pieces[0].data), *pieces[1:])


def _twice(pieces: Sequence[Piece], delay_s: float) -> tuple[Piece, ...]:
    data = b"".join(piece.data for piece in pieces)
    if delay_s:
        return (*pieces, Piece(delay_s, data))
    # At one go: the second copy is there as soon as the first.
    return (*pieces[:-1], Piece(pieces[-1].delay_s, pieces[-1].data + data))


def _cut(pieces: Sequence[Piece], rng: random.Random) -> tuple[Piece, ...]:
    data = b"".join(piece.data for piece in pieces)
    return (Piece(pieces[0].delay_s, data[: rng.randint(1, len(data) - 1)]),)


def _flip(pieces: Sequence[Piece], rng: random.Random) -> tuple[Piece, ...]:
    data = bytearray(b"".join(piece.data for piece in pieces))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return (Piece(pieces[0].delay_s, bytes(data)),)


def _dribble(pieces: Sequence[Piece], pause_s: float) -> tuple[Piece, ...]:
    data = b"".join(piece.data for piece in pieces)
    first, *rest = (data[i : i + 1] for i in range(len(data)))
    return (Piece(pieces[0].delay_s, first), *(Piece(pause_s, byte) for byte in rest))
