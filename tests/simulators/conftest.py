"""Simulators in a thread of their own, as a test wants them; everything a test sees of them comes over the wire."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from contract.config import parse_config
from simulators.ledger import Closed, Entry, Incident, Served, read_ledger
from simulators.scenario import Scenario
from simulators.serve import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from stack import Timescale

_START_S = 30.0
_DEADLINE_S = 20.0


@dataclass(frozen=True)
class Simulated:
    """A simulator that runs."""

    addresses: Mapping[str, Any]
    ledger: Path
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        """Where its HTTP is."""
        return str(self.addresses["url"])

    def entries(self) -> list[Entry]:
        """What its ledger holds now."""
        return list(read_ledger(self.ledger))

    def served(self) -> list[Served]:
        """The answers in its ledger."""
        return [entry for entry in self.entries() if isinstance(entry, Served)]

    def closed(self) -> list[Closed]:
        """The connections that ended."""
        return [entry for entry in self.entries() if isinstance(entry, Closed)]

    def incidents(self) -> list[Incident]:
        """The labelled incidents."""
        return [entry for entry in self.entries() if isinstance(entry, Incident)]

    def wait_for(self, what: str, condition: Callable[[Simulated], bool]) -> None:
        """Return when the condition holds; the test fails when it does not in time."""
        deadline = time.monotonic() + _DEADLINE_S
        while not condition(self):
            assert time.monotonic() < deadline, f"not within {_DEADLINE_S} s: {what}"
            time.sleep(0.02)


@pytest.fixture
def start_simulator(tmp_path: Path) -> Iterator[Callable[..., Simulated]]:
    """Start a simulator by the keys of its config; it ends with the test."""
    with ExitStack() as stack:
        yield lambda **keys: stack.enter_context(_simulated(keys, tmp_path))


@pytest.fixture(scope="module")
def migrated(timescale: Timescale) -> Iterator[str]:
    """The connection string of a database with our tables, one for each file of tests."""
    name = f"simulators_{os.getpid()}_{uuid4().hex[:8]}"
    dsn = timescale.create_database(name)
    environment = {**os.environ, "HEADWATER_DSN": dsn}
    subprocess.run([sys.executable, "-m", "db", "migrate"], env=environment, check=True, timeout=60)
    yield dsn
    timescale.drop_database(name)


@contextmanager
def _simulated(keys: Mapping[str, Any], folder: Path) -> Iterator[Simulated]:
    document = {"ledger_dir": str(folder), "simulators": [keys]}
    scenario = parse_config(document, Scenario, "test")
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Mapping[str, Any]]] = Future()

    async def serve() -> None:
        stopping = asyncio.Event()
        async with running(scenario, scenario.simulators) as found:
            started.set_result((asyncio.get_running_loop(), stopping, found[keys["name"]].addresses))
            await stopping.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except Exception as exc:
            if started.done():
                raise
            started.set_exception(exc)

    thread = threading.Thread(target=run, name=f"simulator {keys['name']}")

    def stop() -> None:
        if thread.is_alive() and started.done() and not started.exception():
            loop, stopping, _ = started.result()
            loop.call_soon_threadsafe(stopping.set)
        thread.join(_START_S)
        assert not thread.is_alive(), "the simulator did not stop"

    thread.start()
    try:
        _, _, addresses = started.result(_START_S)
        yield Simulated(addresses, scenario.ledger_path(keys["name"]), stop)
    finally:
        stop()
