"""How long a line is taken by what is asked on it, computed before the first request. No I/O.

A request on a serial line is 8 bytes, its answer 5 and the data; each byte takes 1 start bit, 8 data bits, the parity
bit and the stop bits. Before each message the line is silent for 3.5 characters, above 19,200 baud for 1.75 ms (Modbus
over serial line 1.02, 2.5.1.1). On TCP bytes count for nothing beside the time that a device takes to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge.sources.modbus.framing import Request

# Of the interval, what is spent at most in waiting for units that did not answer last time.
SILENT_SHARE: Final = 0.15
# Of a poll's time-out: one that meets many dead units ends by itself and delivers what the living ones said.
POLL_SHARE: Final = 0.9
_RTU_EXTRA: Final = 3  # unit before a message, CRC behind it
_SHORTEST_GAP_S: Final = 0.00175
_FAST_BAUD: Final = 19_200
_GAP_CHARACTERS: Final = 3.5


@dataclass(frozen=True, slots=True)
class LineTiming:
    """What a message takes on a line; for one without a baud rate bytes and gaps take no time."""

    baudrate: int | None = None
    bits_per_byte: int = 11
    response_s: float = 0.0

    @property
    def byte_s(self) -> float:
        """One byte."""
        return self.bits_per_byte / self.baudrate if self.baudrate else 0.0

    @property
    def gap_s(self) -> float:
        """The silence before a message."""
        if self.baudrate is None:
            return 0.0
        return _SHORTEST_GAP_S if self.baudrate > _FAST_BAUD else _GAP_CHARACTERS * self.byte_s


def transfer_s(request: Request, byte_s: float) -> float:
    """What the bytes of a request and its answer take on an RTU line."""
    return bytes_of(request) * byte_s


def bytes_of(request: Request) -> int:
    """Bytes of a request and its answer on an RTU line."""
    return len(request.pdu) + request.answer_size + 2 * _RTU_EXTRA


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that is made at each poll, and the pause that its unit needs before it."""

    request: Request
    pause_s: float


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What one poll takes of a line."""

    requests: int
    size_bytes: int
    transfer_s: float
    gaps_s: float
    pauses_s: float
    answers_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return self.transfer_s + self.gaps_s + self.pauses_s + self.answers_s

    def arithmetic(self, timing: LineTiming) -> str:
        """The sum, for a person to check."""
        parts = []
        if timing.baudrate is not None:
            speed = f"{timing.bits_per_byte} bits at {timing.baudrate} baud"
            parts.append(f"{self.size_bytes} bytes of {speed} = {_ms(self.transfer_s)}")
            parts.append(f"{2 * self.requests} silences of {_ms(timing.gap_s)} = {_ms(self.gaps_s)}")
        if self.pauses_s:
            parts.append(f"pauses = {_ms(self.pauses_s)}")
        parts.append(f"{counted(self.requests, 'answer')} after {_ms(timing.response_s)} = {_ms(self.answers_s)}")
        return f"{counted(self.requests, 'request')}: {' + '.join(parts)}: {_ms(self.total_s)}"


def occupancy(asks: Sequence[Ask], timing: LineTiming) -> Occupancy:
    """What asking all of these once takes."""
    return Occupancy(
        requests=len(asks),
        size_bytes=sum(bytes_of(ask.request) for ask in asks),
        transfer_s=sum(transfer_s(ask.request, timing.byte_s) for ask in asks),
        gaps_s=2 * len(asks) * timing.gap_s,
        # A pause holds the silence before a request in it.
        pauses_s=sum(max(0.0, ask.pause_s - timing.gap_s) for ask in asks),
        answers_s=len(asks) * timing.response_s,
    )


def counted(number: int, thing: str) -> str:
    """1 unit, 2 units."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
