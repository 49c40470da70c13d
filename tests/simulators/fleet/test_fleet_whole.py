"""Five hundred nodes for a minute, with everything befalling them, through every part there is, reading by reading."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from bench.scale.system import PARTS, System
from simulators.ledger import Served, read_ledger
from simulators.reconcile_report import show
from simulators.reconcile_targets import Target, reconcile_all
from stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.scale.system import Cost

ROOT = Path(__file__).parents[3]
SCENARIO = ROOT / "simulators" / "scenarios" / "fleet.yaml"
DURATION_S = 60
NODES = 500


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_hundred_nodes_for_a_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=150)
    with capsys.disabled(), System(tmp_path) as system:
        before, began_s = system.costs(), time.monotonic()
        outcome = run_fleet(system, tmp_path / "fleet.jsonl", console)
        readings = [
            len(one.values) for one in read_ledger(tmp_path / "fleet.jsonl") if isinstance(one, Served) and one.promised
        ]
        system.await_stored(sum(readings) - outcome["evicted"] * readings[0], timeout_s=180)
        seconds = time.monotonic() - began_s
        show_costs(before, system.costs(), seconds, console)
        # What is not promised has come by then, too, as far as it comes.
        assert wait_until(lambda: stands_still(system), timeout_s=60, poll_s=5)
        target = Target(source="fleet", ledger=tmp_path / "fleet.jsonl", group="fleet", node="*", device="line")
        (result,) = reconcile_all(system.timescale.superuser_dsn, [target])
        show([result], console)
        assert result.is_clean
        assert result.tally.produced >= sum(readings) > 200_000
        assert set(result.tally.declared_by) <= {"unpromised", "gap"}
        assert 0 < result.tally.declared_by["gap"] <= outcome["evicted"] * readings[0]
        assert len(result.gaps) == outcome["gaps"]
        assert outcome["kept"] == 0
        assert outcome["lines_lost"] > NODES / 5
        assert system.one("select count(*) from node where not online") == NODES
        assert system.one("select sum(undelivered) from node_accounting") == 0
        assert system.one("select sum(given_up + earlier) from node_accounting") <= outcome["evicted"]
        assert system.one("select count(*) from dead_letter where reason like '%alias%'") > 0


def run_fleet(system: System, ledger: Path, console: Console) -> Mapping[str, Any]:
    words = ["--scenario", SCENARIO, "--ledger", ledger, "--broker", f"127.0.0.1:{system.mosquitto.port}"]
    limits = ["--nodes", NODES, "--duration", DURATION_S, "--drain", 180, "--json"]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "simulators", "fleet", *map(str, [*words, *limits])],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        timeout=400,
    )
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    assert done.returncode == 0
    outcome: Mapping[str, Any] = json.loads(done.stdout)
    console.print(f"fleet: {cpu_s:.1f} CPU-s in {outcome['seconds']} s", outcome)
    return outcome


def show_costs(before: Mapping[str, Cost], after: Mapping[str, Cost], seconds: float, console: Console) -> None:
    for part in PARTS:
        cpu_s = after[part].cpu_s - before[part].cpu_s
        console.print(
            f"{part:12} {cpu_s:6.1f} CPU-s, {100 * cpu_s / seconds:5.1f} % of a core, {after[part].pss_mib:.0f} MiB"
        )


def stands_still(system: System) -> bool:
    before = system.stored()
    time.sleep(3)
    return system.stored() == before
