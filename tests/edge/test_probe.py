"""`python -m edge probe` against simulated lines whose limits are known."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from contract.config import parse_config
from edge.__main__ import main
from edge.sources.modbus import ModbusConfig
from simulators.ledger import Ledger, Written, read_ledger
from simulators.plant import BusConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MODBUS_PAGE = Path("docs/sources/modbus.md").read_text(encoding="utf-8")
POINTS = [
    {"table": "holding", "address": 4, "count": 10, "datatype": "uint16", "writable": True},
    {"table": "holding", "address": 30, "count": 4, "datatype": "float32", "word_order": "little", "value": 231.4},
    {"table": "coil", "address": 3, "count": 21, "datatype": "bool", "writable": True},
]


@contextmanager
def _line(folder: Path, **keys: Any) -> Iterator[Mapping[str, Any]]:
    """A bus in a thread of its own; at its end nothing has been written to it."""
    config = parse_config({"name": "bus", "unit_ids": "2, 5", "points": POINTS, "hole": 0} | keys, BusConfig, "test")
    listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Mapping[str, Any]]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        with Ledger(folder / "bus.jsonl", {"simulator": "bus", "seed": 0, "match": config.match}) as ledger:
            async with config.run(ledger) as running:
                listening.set_result((asyncio.get_running_loop(), over, running.addresses))
                await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="bus")
    thread.start()
    loop, over, addresses = listening.result(20)
    try:
        yield addresses
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
    assert not [entry for entry in read_ledger(folder / "bus.jsonl") if isinstance(entry, Written)]


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Callable[..., Mapping[str, Any]]]:
    """Starts a bus by the keys of its configuration."""
    with ExitStack() as stack:
        yield lambda **keys: stack.enter_context(_line(tmp_path, **keys))


def target(addresses: Mapping[str, Any]) -> str:
    return f"{addresses['host']}:{addresses['port']}"


def source_in(printed: str, folder: Path) -> ModbusConfig:
    """The printed source, once `check` has accepted it in a configuration."""
    document = {"group": "g", "node": "n", "state_dir": str(folder), "mqtt": {"host": "h"}, **yaml.safe_load(printed)}
    path = folder / "edge.yaml"
    path.write_text(yaml.safe_dump(document))
    assert main(["check", str(path)]) == 0
    return ModbusConfig.model_validate(document["sources"][0])


def test_everything_is_found_exactly_and_the_printed_source_polls_the_value(
    line: Callable[..., Mapping[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {"max_registers": 7, "max_bits": 12, "pause_s": 0.01, "absent_unit": "silence"}
    where = target(line(limits=limits))
    arguments = ["probe", where, "--units", "1-6", "--addresses", "0-45", "--value", "231", "--tables", "holding,coil"]
    assert main([*arguments, "--timeout", "0.1", "--pause", "0", "--tolerance", "0.5", "--name", "meter"]) == 0
    printed, told = capsys.readouterr()
    assert "nothing is written" in told
    assert "units: 2, 5" in told
    for unit_id in (2, 5):
        assert f"# unit {unit_id}: holding 4-13, 30-37\n" in printed
        assert f"# unit {unit_id}: coil 3-23\n" in printed
    source = source_in(printed, tmp_path)
    assert (source.name, f"{source.host}:{source.port}", source.request_timeout_s) == ("meter", where, 0.1)
    assert 0.01 <= source.pause_s <= 0.02  # a fifth is added to what was found
    assert [(unit.unit_id, unit.max_registers, unit.max_bits) for unit in source.units] == [(2, 7, 12), (5, 7, 12)]
    points = {(p.address, p.datatype, p.word_order, p.scale) for p in source.units[0].points}
    assert points >= {(at, "float32", "little", None) for at in (30, 32, 34, 36)}

    async def poll() -> list[Any]:
        async with source.open(lambda: 0) as opened:
            return [r.value for r in await opened.poll() if r.metric.startswith("unit2/holding/30/")]

    assert asyncio.run(poll())[0] == pytest.approx(231.4, rel=1e-6)


@pytest.mark.parametrize("transport", ["rtu_over_tcp", "serial"])
def test_rtu_lines_are_probed_too(
    line: Callable[..., Mapping[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], transport: str
) -> None:
    addresses = line(transport=transport, limits={"absent_unit": "silence"})
    where = (
        ["--serial", addresses["device"], "--baud", "115200"] if transport == "serial" else [target(addresses), "--rtu"]
    )
    options = ["--units", "1-9", "--stop-after", "1", "--addresses", "0-15", "--tables", "holding", "--timeout", "0.1"]
    assert main(["probe", *where, *options, "--pause", "0"]) == 0
    printed, told = capsys.readouterr()
    assert "needs no pause" in told
    assert "unit 2: holding 4-13\n" in printed
    source = source_in(printed, tmp_path)
    assert source.transport == transport
    assert [unit.unit_id for unit in source.units] == [2]
    assert source.units[0].points[0].address == 4


def test_a_device_that_answers_to_any_unit_id_is_one_device(
    line: Callable[..., Mapping[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    where = target(line(unit_ids="0-255"))
    assert main(["probe", where, "--addresses", "0-5", "--tables", "holding", "--pause", "0"]) == 0
    printed, told = capsys.readouterr()
    assert "any unit id is answered" in told
    assert "# The device answers to any unit id.\n" in printed
    assert [unit["unit_id"] for unit in yaml.safe_load(printed)["sources"][0]["units"]] == [1]


def test_small_holes_are_kept_out_of_the_poll(
    line: Callable[..., Mapping[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [{"table": "input", "address": at, "count": 3, "datatype": "int16"} for at in (0, 5, 20)]
    where = target(line(points=points))
    options = ["--units", "2", "--addresses", "0-25", "--tables", "input", "--pause", "0"]
    assert main(["probe", where, *options]) == 0
    (unit,) = source_in(capsys.readouterr().out, tmp_path).units
    assert [(hole.table, hole.first, hole.last) for hole in unit.forbidden] == [("input", 3, 4)]


def test_nothing_found_is_exit_code_1(
    line: Callable[..., Mapping[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    where = target(line(limits={"absent_unit": "silence"}))
    assert main(["probe", where, "--units", "7-8", "--timeout", "0.05"]) == 1
    printed, told = capsys.readouterr()
    assert printed == ""
    assert "units: none (no answer in time)" in told


def test_a_device_that_serves_another_client_is_told_from_one_that_is_not_there(
    line: Callable[..., Mapping[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    addresses = line(limits={"max_clients": 1})
    with socket.create_connection((addresses["host"], addresses["port"])):
        assert main(["probe", target(addresses), "--units", "2", "--timeout", "0.2"]) == 1
    # Which of the two depends on whether it closes before or after our request has arrived.
    assert re.search(r"units: none \((the device closed the|Connection reset)", capsys.readouterr().err)


def test_no_connection_is_exit_code_1_and_names_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "127.0.0.1:1"]) == 1
    assert "edge: no connection to 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "HOST[:PORT] or --serial DEVICE"),
        (["h", "--serial", "/dev/x"], "and not both"),
        (["--serial", "/dev/x", "--rtu"], "--rtu is for HOST"),
        (["--serial", "/dev/x", "--baud", "17"], "baudrate"),
        (["h:99999"], "port"),
        (["h:x"], "port"),
        (["h", "--timeout", "0"], "request_timeout_s"),
    ],
)
def test_wrong_usage_is_a_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", *arguments]) == 2
    told = capsys.readouterr().err
    assert line in told
    assert "Traceback" not in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--units", "0-256"],
        ["--units", "a"],
        ["--units", "5-1"],
        ["--addresses", "0-65536"],
        ["--tables", "registers"],
        ["--value", "0"],
        ["--value", "nan"],
        ["--tolerance", "100"],
        ["--timeout", "61"],
    ],
)
def test_options_that_cannot_be_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["probe", "h", *arguments])
    assert stopped.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("plc", "plc", 502),
        ("plc:5020", "plc", 5020),
        ("::1", "::1", 502),
        ("[::1]:5020", "::1", 5020),
        ("[::1]", "::1", 502),
    ],
)
def test_targets_may_be_names_and_addresses_with_and_without_port(given: str, host: str, port: int) -> None:
    from edge.__main__ import _parser  # noqa: PLC0415 - white box
    from edge.cli.probe import _options  # noqa: PLC0415 - as above

    line = _options(_parser().parse_args(["probe", given])).line
    assert (line.host, line.port) == (host, port)


def test_ctrl_c_prints_what_was_found_so_far(line: Callable[..., Mapping[str, Any]]) -> None:
    where = target(line())
    command = [
        sys.executable,
        "-m",
        "edge",
        "probe",
        where,
        "--units",
        "1-9",
        "--addresses",
        "0-20000",
        "--pause",
        "0.01",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(told.startswith("units: 2, 5") for told in process.stderr)
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "this is what was found so far" in told
    assert "Traceback" not in told
    assert "# not looked into: units 5\n" in printed


def test_every_option_is_in_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["probe", "--help"])
    section = MODBUS_PAGE.split("## Probing a device", 1)[1].split("\n## ", 1)[0]
    for option in re.findall(r"--[a-z-]+", capsys.readouterr().out):
        if option != "--help":
            assert f"`{option}" in section, option


def test_the_source_in_the_document_is_one() -> None:
    section = MODBUS_PAGE.split("## Probing a device", 1)[1]
    (transcript,) = re.findall(r"^```console\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    (source,) = yaml.safe_load(transcript[transcript.index("sources:") :])["sources"]
    ModbusConfig.model_validate(source)
