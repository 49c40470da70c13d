"""What a device puts up with: what a master has to find out, or has to be told."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from pydantic import Field

from contract.config import Config
from simulators.plant.pdu import MAX_BITS, MAX_REGISTERS, ExceptionCode

Complaint: TypeAlias = Literal["silence", "garbage", "illegal_address", "illegal_value", "busy", "no_response"]
_CODES: Final[dict[Complaint, ExceptionCode]] = {
    "illegal_address": ExceptionCode.ILLEGAL_ADDRESS,
    "illegal_value": ExceptionCode.ILLEGAL_VALUE,
    "busy": ExceptionCode.BUSY,
    "no_response": ExceptionCode.GATEWAY_NO_RESPONSE,
}


class Limits(Config):
    """A device's limits, and what it does when they are passed."""

    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="Most of one read")
    max_bits: int = Field(default=MAX_BITS, ge=1, le=MAX_BITS, description="Most coils or discrete inputs of one read")
    when_too_many: Complaint = Field(default="illegal_value", description="How a larger read is answered")
    pause_s: float = Field(default=0.0, ge=0, le=10, description="Wanted from an answer to the next request, s")
    when_too_soon: Complaint = Field(default="silence", description="How a request before that is answered")
    absent_unit: Complaint = Field(default="no_response", description="How a unit that is not there is answered")
    max_clients: int | None = Field(default=None, ge=1, description="Connections at a time; more are closed at once")
    turnaround_s: float = Field(default=0.0, ge=0, le=10, description="What the device takes for each answer, s")


def code_of(complaint: Complaint) -> ExceptionCode | None:
    """The exception code that a complaint is made by; None where it is no exception."""
    return _CODES.get(complaint)
