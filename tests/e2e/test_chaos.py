"""Every part of a running system is killed once, and nothing is lost or stored twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from stack.demo import System
from stack.demo.layout import Ports
from stack.demo.system import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DURATION_S = 180.0
# When each is killed, in seconds from the start, and how long it stays down. The broker goes, with its store, while the
# bridge is down: it has acknowledged messages then that nobody else has.
KILLS = {
    "bridge": (15, 15),
    "mosquitto": (25, 5),
    "stream": (55, 5),
    "kafka": (90, 10),
    "timescaledb": (120, 10),
    "edge-1": (150, 5),
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_is_killed_and_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled(), System(Settings(tmp_path / "chaos", Ports.free())) as system:
        print()
        began = time.monotonic()
        for name, (at_s, down_s) in KILLS.items():
            run_until(system, lambda at_s=at_s: time.monotonic() - began >= at_s)
            system.supervisor.kill(name, down_s=down_s)
            if name == "mosquitto":
                system.mosquitto.wipe()
            print(f"{time.monotonic() - began:6.1f} s  {name} killed", flush=True)
        run_until(system, lambda: time.monotonic() - began >= DURATION_S)
        assert dict.fromkeys(KILLS, 1) == {name: system.supervisor.restarts[name] for name in KILLS}
        assert all(member.running for member in system.supervisor.members.values())
        # And once more, as the run ends: what dies then comes back to deliver.
        for name in ("edge-2", "mosquitto", "bridge"):
            system.supervisor.kill(name)
        system.drain(240)
        assert system.reconcile() == 0


def run_until(system: System, condition: Callable[[], bool]) -> None:
    while not condition():
        system.supervisor.supervise()
        time.sleep(0.2)
