"""Running the simulators of a scenario in one process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from simulators.errors import SimulatorError
from simulators.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
    from pathlib import Path

    from simulators.scenario import Scenario, Simulator
    from simulators.simulator import Running

logger = logging.getLogger(__name__)


def chosen(scenario: Scenario, names: Sequence[str]) -> tuple[Simulator, ...]:
    """The simulators of those names, all where there are none; raises SimulatorError for a name that is unknown."""
    known = {simulator.name: simulator for simulator in scenario.simulators}
    for name in names:
        if name not in known:
            raise SimulatorError(f"no simulator is called {name!r}: allowed are {', '.join(known)}")
    return tuple(known[name] for name in names or known)


def where_it_was(simulator: Simulator, addresses: Path | None) -> Simulator:
    """The simulator with the ports that a killed run had, where it has none of its own and they are still free."""
    try:
        found = json.loads(addresses.read_text())[simulator.name] if addresses else {}
        wanted = {
            "port": found.get("port") or urlsplit(found.get("url", "")).port,
            "rtsp_port": urlsplit(found.get("rtsp", "")).port,
        }
    except (OSError, ValueError, KeyError, AttributeError):
        return simulator
    free = {
        key: port
        for key, port in wanted.items()
        if port and getattr(simulator, key, None) == 0 and _is_free(simulator.host, port)
    }
    return simulator.model_copy(update=free)


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError:
        return False


@asynccontextmanager
async def running(scenario: Scenario, simulators: Sequence[Simulator]) -> AsyncGenerator[dict[str, Running]]:
    """Simulators that all listen, each with its ledger open; raises SimulatorError for one that cannot start."""
    async with AsyncExitStack() as stack:
        found: dict[str, Running] = {}
        for simulator in simulators:
            header = {"simulator": simulator.name, "seed": simulator.seed, "match": simulator.match}
            try:
                ledger = stack.enter_context(Ledger(scenario.ledger_path(simulator.name), header))
                found[simulator.name] = await stack.enter_async_context(simulator.run(ledger))
            except OSError as exc:
                raise SimulatorError(f"{simulator.name}: cannot start: {exc}") from exc
        yield found


async def serve(scenario: Scenario, simulators: Sequence[Simulator], addresses: Path | None) -> None:
    """Run until SIGTERM or SIGINT; `addresses` is written once all listen, and removed at the end.

    One that is there already was left by a run that was killed: its free ports are taken again, for clients know them.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with running(scenario, [where_it_was(one, addresses) for one in simulators]) as found:
        for name, one in found.items():
            logger.info("%s listens: %s", name, ", ".join(f"{key} {value}" for key, value in one.addresses.items()))
        with _announced(found, addresses):
            await stopping.wait()
        logger.info("stopping")


@contextmanager
def _announced(found: Mapping[str, Running], path: Path | None) -> Generator[None]:
    """Addresses in a file for as long as they hold: JSON by name, written whole or not at all."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(json.dumps({name: dict(one.addresses) for name, one in found.items()}, indent=2) + "\n")
    half.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
