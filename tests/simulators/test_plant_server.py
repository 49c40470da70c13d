from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from simulators.ledger import Entry, Header, Incident, Ledger, Refused, Served, now_ms, read_ledger
from simulators.plant import UNITS, PlantConfig
from simulators.plant.points import Kind, Order, PlantPoint, Table, from_registers, to_value
from simulators.plant.register_map import POINTS
from simulators.plant.server import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
    from pathlib import Path

DEADLINE_S = 5.0
ALWAYS = {"start_s": 0, "duration_s": 600}


class Site:
    def __init__(self, addresses: Any, ledger_path: Path) -> None:
        self.host, self.port, self.control_port = (addresses[key] for key in ("host", "port", "control_port"))
        self.ledger_path = ledger_path

    @asynccontextmanager
    async def client(self, **keys: Any) -> AsyncGenerator[AsyncModbusTcpClient]:
        keys = {"timeout": DEADLINE_S, "retries": 0, "reconnect_delay": 0} | keys
        client = AsyncModbusTcpClient(self.host, port=self.port, **keys)
        assert await client.connect()
        try:
            yield client
        finally:
            client.close()

    @asynccontextmanager
    async def socket(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    def entries(self) -> list[Entry]:
        return list(read_ledger(self.ledger_path))

    def served(self) -> list[Served]:
        return [entry for entry in self.entries() if isinstance(entry, Served)]

    def refused(self) -> list[Refused]:
        return [entry for entry in self.entries() if isinstance(entry, Refused)]

    def incidents(self) -> list[Incident]:
        return [entry for entry in self.entries() if isinstance(entry, Incident)]


def against_a_plant(path: Path, check: Callable[[Site], Coroutine[Any, Any, None]], **keys: Any) -> None:
    """Run a check against a plant that listens; it may leave neither a task nor a connection behind."""

    async def run() -> None:
        config = PlantConfig.model_validate({"name": "plant", "seed": 7, "step_s": 0.02} | keys)
        header = {"simulator": "plant", "seed": 7, "match": config.match}
        with Ledger(path / "plant.jsonl", header) as ledger:
            async with asyncio.timeout(60), config.run(ledger) as found:
                await check(Site(found.addresses, ledger.path))
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - a file tells, not an event
            await asyncio.sleep(0.01)


def frame(transaction: int, unit_id: int, *pdu: int) -> bytes:
    return struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit_id) + bytes(pdu)


def read_all(unit_id: int) -> list[tuple[Table, int, int]]:
    """Reads of a unit that cover all of its points: one for each run of neighbouring addresses."""
    reads: list[tuple[Table, int, int]] = []
    for table in Table:
        points = sorted((p for p in UNITS[unit_id] if p.table is table), key=lambda p: (p.address, p.end))
        for point in points:
            if reads and reads[-1][0] is table and point.address <= reads[-1][2]:
                reads[-1] = (table, reads[-1][1], max(reads[-1][2], point.end))
            else:
                reads.append((table, point.address, point.end))
    return reads


async def read(client: AsyncModbusTcpClient, unit_id: int, table: Table, start: int, end: int) -> list[int]:
    call = {
        Table.COIL: client.read_coils,
        Table.DISCRETE: client.read_discrete_inputs,
        Table.HOLDING: client.read_holding_registers,
        Table.INPUT: client.read_input_registers,
    }[table]
    response = await call(start, count=end - start, device_id=unit_id)
    assert not response.isError(), response
    return [int(word) for word in (response.bits if table.of_bits else response.registers)[: end - start]]


async def read_point(client: AsyncModbusTcpClient, name: str) -> Any:
    (unit_id,) = (unit_id for unit_id, points in UNITS.items() if POINTS[name] in points)
    point = POINTS[name]
    return decode(point, await read(client, unit_id, point.table, point.address, point.end))


def decode(point: PlantPoint, words: Sequence[int]) -> Any:
    """What pymodbus's client makes of the words, where it can; it knows no byte order."""
    names = {Kind.STRING: "STRING"}
    if point.kind is Kind.BOOL or point.byte_order is Order.LITTLE:
        return to_value(point, from_registers(point, words))
    datatype = AsyncModbusTcpClient.DATATYPE[names.get(point.kind, point.kind.value.upper())]
    raw = AsyncModbusTcpClient.convert_from_registers(list(words), datatype, word_order=point.word_order.value)
    assert not isinstance(raw, list)
    return to_value(point, raw)


def test_all_points_are_read_and_the_ledger_has_what_was_read(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        found: dict[str, Any] = {}
        async with site.client() as client:
            for unit_id, points in UNITS.items():
                for table, start, end in read_all(unit_id):
                    before = now_ms()
                    words = await read(client, unit_id, table, start, end)
                    served = site.served()[-1]
                    assert before <= served.at <= now_ms()
                    inside = {
                        p.name: decode(p, words[p.address - start : p.end - start])
                        for p in points
                        if p.table is table and start <= p.address < end
                    }
                    assert served.values == inside
                    found |= inside
        assert found.keys() == POINTS.keys()
        assert found["intake/serial_number"] == "HW-INTAKE-004711"

    against_a_plant(tmp_path, check)


def test_the_header_says_what_the_ledger_is(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        (header,) = site.entries()
        assert isinstance(header, Header)
        assert (header.simulator, header.seed, header.match) == ("plant", 7, "served")

    against_a_plant(tmp_path, check)


def test_values_move_with_time(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        async with site.client() as client:
            first = await read_point(client, "quality/treated_volume")
            async with asyncio.timeout(DEADLINE_S):
                while await read_point(client, "quality/treated_volume") <= first:  # noqa: ASYNC110 - the plant is asked
                    await asyncio.sleep(0.02)

    against_a_plant(tmp_path, check)


def test_many_clients_at_once_are_each_answered_and_all_noted(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        async def ask() -> None:
            async with site.client() as client:
                for _ in range(20):
                    await read(client, 1, Table.INPUT, 0, 12)

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(ask())
        assert len(site.served()) == 160

    against_a_plant(tmp_path, check)


def test_requests_sent_together_and_torn_apart_are_answered_in_order(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        async with site.socket() as (reader, writer):
            requests = b"".join(frame(n, 1, 4, 0, 0, 0, 2) for n in range(1, 6))
            for i in range(0, len(requests), 7):
                writer.write(requests[i : i + 7])
                await writer.drain()
                await asyncio.sleep(0.001)
            for n in range(1, 6):
                answer = await reader.readexactly(13)
                assert answer[:2] == struct.pack(">H", n)
                value = struct.unpack(">f", answer[11:13] + answer[9:11])[0]
                assert site.served()[n - 1].values == {"tank1/level": value}

    against_a_plant(tmp_path, check)


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        ((4, 3, 0, 0, 1), 2),  # an address far off
        ((4, 0, 0, 0, 126), 3),  # more than a read may ask
        ((4, 0, 0, 0, 0), 3),  # nothing
        ((6, 0, 0, 0, 1), 2),  # half of a float
        ((16, 0, 0, 0, 2, 4, 0, 1), 3),  # fewer registers than announced
        ((17,), 1),  # a function it does not have
        ((99, 1, 2), 1),
        ((4,), 3),  # torn
    ],
)
def test_a_bad_request_is_refused_and_the_next_one_answered(tmp_path: Path, pdu: tuple[int, ...], code: int) -> None:
    async def check(site: Site) -> None:
        async with site.socket() as (reader, writer):
            writer.write(frame(1, 1, *pdu) + frame(2, 1, 4, 0, 0, 0, 2))
            assert await reader.readexactly(9) == frame(1, 1, pdu[0] | 0x80, code)
            assert (await reader.readexactly(13))[:2] == b"\0\2"
        assert [set(served.values) for served in site.served()] == [{"tank1/level"}]

    against_a_plant(tmp_path, check)


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n", b"\0\1\0\0\0\1\1\1", b"\0\1\0\0\xff\xff\1\4"])
def test_what_is_no_modbus_is_cut_off(tmp_path: Path, rubbish: bytes) -> None:
    async def check(site: Site) -> None:
        async with site.socket() as (reader, writer):
            writer.write(rubbish)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        async with site.client() as client:
            await read(client, 1, Table.INPUT, 0, 2)

    against_a_plant(tmp_path, check)


def test_a_flood_that_is_not_read_is_cut_off(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        async with site.socket() as (reader, writer):
            writer.write(frame(1, 1, 4, 0, 0, 0, 2) * 100)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(100 * 13)

    against_a_plant(tmp_path, check, faults=[{"kind": "slow_reply", "delay_s": 5, **ALWAYS}])


async def wait_for_fault(site: Site) -> None:
    await until(lambda: bool(site.incidents()))


def test_busy_and_dropped_and_illegal_are_noted_as_refused(tmp_path: Path) -> None:
    faults = [
        {"kind": "busy", "unit_id": 1, **ALWAYS},
        {"kind": "comms_error", "unit_id": 2, **ALWAYS},
        {"kind": "illegal_address", "point": "quality/ph", **ALWAYS},
    ]

    async def check(site: Site) -> None:
        await until(lambda: len(site.incidents()) == 3)
        async with site.socket() as (reader, writer):
            writer.write(frame(1, 1, 4, 0, 0, 0, 2) + frame(2, 3, 4, 0, 100, 0, 4))
            assert await reader.readexactly(9) == frame(1, 1, 0x84, 6)
            assert await reader.readexactly(9) == frame(2, 3, 0x84, 2)
            writer.write(frame(3, 2, 4, 0, 0, 0, 1))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        assert site.served() == []
        assert [set(refused.metrics) for refused in site.refused()] == [
            {"tank1/level"},
            {"quality/ph", "quality/turbidity"},
            {point.name for point in UNITS[2]},
        ]
        async with site.client() as client:
            await read(client, 3, Table.INPUT, 102, 104)
        assert [set(served.values) for served in site.served()] == [{"quality/turbidity"}]

    against_a_plant(tmp_path, check, faults=faults)


def test_a_slow_reply_is_noted_when_it_goes_out(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        await wait_for_fault(site)
        async with site.client() as client:
            asked_at = now_ms()
            await read(client, 1, Table.INPUT, 0, 2)
            (served,) = site.served()
            assert served.asked_at is not None
            assert asked_at - DEADLINE_S * 1000 <= served.asked_at <= served.at - 295
            assert served.at <= now_ms()
            await read(client, 2, Table.INPUT, 0, 2)
            assert site.served()[-1].asked_at is None

    against_a_plant(tmp_path, check, faults=[{"kind": "slow_reply", "unit_id": 1, "delay_s": 0.3, **ALWAYS}])


def test_a_request_that_lay_unread_was_asked_before_its_simulator_stood_still(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        async with site.socket() as (reader, writer):
            with socket.create_connection((site.host, site.port)) as other:
                writer.write(frame(1, 2, 4, 0, 0, 0, 2))
                other.sendall(frame(1, 2, 4, 0, 0, 0, 2))  # who waits to be accepted, too
                stood_still_at = now_ms()
                time.sleep(0.5)  # noqa: ASYNC251 - the event loop is to stand still
                assert await reader.readexactly(13)
                await until(lambda: len(site.served()) == 2)
        for served in site.served():
            assert served.asked_at is not None
            assert served.asked_at <= stood_still_at <= served.at - 500

    against_a_plant(tmp_path, check)


def test_a_slow_reply_is_noted_as_of_before_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else whoever is quick has stamped the value before the ledger says that it went.
    sent_at: list[int] = []
    send = Connection.send

    def send_and_dawdle(wire: Connection, data: bytes) -> None:
        sent_at.append(now_ms())
        send(wire, data)
        time.sleep(0.03)

    monkeypatch.setattr(Connection, "send", send_and_dawdle)

    async def check(site: Site) -> None:
        await wait_for_fault(site)
        async with site.client() as client:
            await read(client, 1, Table.INPUT, 0, 2)
            await read(client, 1, Table.INPUT, 0, 2)
            assert site.served()[0].at <= sent_at[0]

    against_a_plant(tmp_path, check, faults=[{"kind": "slow_reply", "unit_id": 1, "delay_s": 0.3, **ALWAYS}])


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_slow_reply_to_a_client_that_has_gone_is_not_noted(tmp_path: Path, how: str) -> None:
    async def check(site: Site) -> None:
        await wait_for_fault(site)
        gone = socket.create_connection((site.host, site.port))
        if how == "reset":
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sendall(frame(1, 1, 4, 0, 0, 0, 2))
        # A reset takes back what the plant has not read yet, and nothing here can see that it has.
        await asyncio.sleep(0.1)
        gone.close()
        async with site.client() as client:
            # Asked later, so answered later: by then the first one would have been.
            await read(client, 1, Table.INPUT, 2, 4)
        assert [set(served.values) for served in site.served()] == [{"tank2/level"}]

    against_a_plant(tmp_path, check, faults=[{"kind": "slow_reply", "unit_id": 1, "delay_s": 0.3, **ALWAYS}])


def test_writes_are_answered_seen_and_no_readings_in_the_ledger(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        async with site.client() as client:
            assert not (await client.write_coil(0, value=False, device_id=2)).isError()
            assert not (await client.write_register(12, 720, device_id=3)).isError()
            level = AsyncModbusTcpClient.convert_to_registers(
                2.5, AsyncModbusTcpClient.DATATYPE.FLOAT32, word_order="little"
            )
            assert not (await client.write_registers(0, level, device_id=1)).isError()
            assert site.served() == []
            assert await read_point(client, "pump1/run_command") is False
            assert await read_point(client, "ph/setpoint") == 7.2
            assert await read_point(client, "tank1/level_setpoint") == 2.5
            assert not (await client.write_coils(0, [True, False], device_id=2)).isError()
            assert await read_point(client, "pump1/run_command") is True
            assert await read_point(client, "pump2/run_command") is False
            async with asyncio.timeout(DEADLINE_S):
                before = await read_point(client, "pump2/speed")
                while await read_point(client, "pump2/speed") >= before:  # noqa: ASYNC110 - the plant is asked
                    await asyncio.sleep(0.05)

    against_a_plant(tmp_path, check)


def test_incidents_are_noted_at_their_start_and_their_end(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        (header,) = (entry for entry in site.entries() if isinstance(entry, Header))
        await until(lambda: len(site.incidents()) == 2)
        begun, over = site.incidents()
        assert (begun.label, begun.to_ms) == ("leak tank2", None)
        assert over.from_ms == begun.from_ms
        assert over.to_ms == begun.from_ms + 200
        assert 90 <= begun.from_ms - header.started_at <= 1000

    against_a_plant(tmp_path, check, faults=[{"kind": "leak", "tank": 2, "start_s": 0.1, "duration_s": 0.2}])


def test_what_still_lasts_ends_with_the_plant(tmp_path: Path) -> None:
    against_a_plant(tmp_path, wait_for_fault, faults=[{"kind": "busy", **ALWAYS}])
    begun, over = [entry for entry in read_ledger(tmp_path / "plant.jsonl") if isinstance(entry, Incident)]
    assert begun.to_ms is None
    assert over.to_ms is not None
    assert begun.from_ms <= over.to_ms <= now_ms()


def test_a_fault_is_put_in_by_hand_and_a_wrong_one_refused(tmp_path: Path) -> None:
    async def check(site: Site) -> None:
        reader, writer = await asyncio.open_connection(site.host, site.control_port)
        writer.write(b'{"kind": "busy", "unit_id": 1, "duration_s": 60}\n{"kind": "flood"}\n')
        odd = [b"nonsense", b"\xff\xfe", b"[" * 60_000, b'{"kind": "leak", "duration_s": 1e308}', b"", b"null"]
        writer.write(b"".join(line + b"\n" for line in odd))
        answers = [json.loads(await reader.readline()) for _ in range(2 + len(odd))]
        assert answers[0] == {"label": "busy unit 1"}
        assert "flood" in answers[1]["error"]
        assert all(answer.keys() == {"error"} for answer in answers[2:])
        await wait_for_fault(site)
        async with site.client() as client:
            response = await client.read_input_registers(0, count=2, device_id=1)
            assert response.exception_code == 6
        writer.close()

    against_a_plant(tmp_path, check)
