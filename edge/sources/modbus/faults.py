"""What can go wrong with one request.

ModbusFault (a SourceError)
├── NoConnection   the line cannot be reached
├── NoAnswer       nothing, or nothing that can be used, came back in time
├── NoTime         the poll's time was over before it could be answered
└── Refusal        the device answered with an exception code
"""

from __future__ import annotations

from typing import Final

from edge.errors import SourceError

# Modbus application protocol 1.1b3, 7.
_EXCEPTIONS: Final = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    5: "acknowledge: still at work",
    6: "device busy",
    7: "negative acknowledge",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not answer",
}
_ABOUT_ADDRESSES: Final = frozenset({2, 3})
_FOR_NOW: Final = frozenset({5, 6})
_FROM_GATEWAY: Final = frozenset({10, 11})


class ModbusFault(SourceError):  # noqa: N818 - its children say what is the matter, not that it is an error
    """A request that brought nothing."""

    is_silence = False
    """Whether the unit was asked, and did not answer."""


class NoConnection(ModbusFault):
    """The line cannot be reached."""


class NoAnswer(ModbusFault):
    """Nothing, or nothing that can be used, came back in time."""

    is_silence = True


class NoTime(ModbusFault):
    """The poll's time was over before it could be answered."""

    def __init__(self) -> None:
        super().__init__("no time left: what did not answer used up the timeout_s")


class Refusal(ModbusFault):
    """The device answered with an exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{_EXCEPTIONS.get(code, 'unknown exception')} (exception {code})")
        self.code = code
        # A gateway's answer for a unit that does not answer.
        self.is_silence = code in _FROM_GATEWAY

    @property
    def is_about_addresses(self) -> bool:
        """Whether fewer registers in one request might be answered."""
        return self.code in _ABOUT_ADDRESSES

    @property
    def is_for_now(self) -> bool:
        """Whether the same request might be answered in a moment."""
        return self.code in _FOR_NOW
