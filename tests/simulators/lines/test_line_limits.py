"""What devices put up with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

READ = bytes([4, 0, 8, 0, 4])


@pytest.mark.parametrize(("complaint", "answer"), [("illegal_value", b"\x84\x03"), ("illegal_address", b"\x84\x02")])
def test_larger_reads_are_refused(
    bus: Callable[..., Any], complaint: str, answer: bytes, client_of: Callable[..., Any]
) -> None:
    limits = {"max_registers": 10, "max_bits": 12, "when_too_many": complaint}
    with client_of(bus(limits=limits)) as client:
        assert client.ask(1, bytes([4, 0, 0, 0, 10]))[0] == 4
        assert client.ask(1, bytes([4, 0, 0, 0, 11])) == answer
        assert client.ask(1, bytes([1, 0, 0, 0, 12]))[0] == 1
        assert client.ask(1, bytes([1, 0, 0, 0, 13]))[0] == 0x81


@pytest.mark.parametrize("complaint", ["silence", "garbage", "busy"])
def test_who_asks_too_soon_is_not_served(
    bus: Callable[..., Any], complaint: str, client_of: Callable[..., Any]
) -> None:
    with client_of(bus(limits={"pause_s": 0.3, "when_too_soon": complaint})) as client:
        assert client.ask(1, READ)[0] == 4
        head = client.send(1, READ)
        hasty = client.receive(0.1)
        assert {"silence": hasty == b"", "garbage": hasty != b"" and not hasty.startswith(head)}.get(
            complaint, hasty[7:] == b"\x84\x06"
        )
        time.sleep(0.4)
        assert client.ask(1, READ)[0] == 4


def test_an_absent_unit_may_be_silent(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    with client_of(bus(limits={"absent_unit": "silence"})) as client:
        client.send(9, READ)
        assert client.receive(0.1) == b""
        assert client.ask(1, READ)[0] == 4


def test_a_client_too_many_is_turned_away(bus: Callable[..., Any], client_of: Callable[..., Any]) -> None:
    line = bus(limits={"max_clients": 1})
    with client_of(line) as client:
        assert client.ask(1, READ)[0] == 4
        with client_of(line) as other:
            other.send(1, READ)
            assert other.receive(1) == b""
        assert client.ask(1, READ)[0] == 4
    time.sleep(0.1)
    with client_of(line) as client:
        assert client.ask(1, READ)[0] == 4
