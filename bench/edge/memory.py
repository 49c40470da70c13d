"""Memory and CPU of the agent with four sources and models, as the simulators' plant and APIs feed it.

    python -m bench.edge.memory [--seconds 90] [PACKAGE ...]

Two Modbus lines, quotes and weather, and the two models of `bench/edge/models`, each given a window of a minute every
second once it has one; or the packages given, with a camera where one is of a camera's scene. Proportional set size
(PSS): pages shared by processes count once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import yaml

from bench.edge.collector import Collector
from bench.edge.process import usage
from stack import Mosquitto
from stack.demo import configs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHECKOUT: Final = Path(__file__).parents[2]
MODELS: Final = Path(__file__).parent / "models"
_START_S: Final = 30.0
_MIB: Final = 1 << 20


def main() -> None:
    """Run it all and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.edge.memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=90.0, help="how long the agent runs (90)")
    parser.add_argument("packages", nargs="*", type=Path, metavar="PACKAGE", help="models instead of bench/edge/models")
    options = parser.parse_args()
    packages = options.packages or sorted(each for each in MODELS.iterdir() if each.is_dir())
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-edge-")))
        broker = stack.enter_context(Mosquitto())
        stack.enter_context(Collector(broker.port))
        addresses, scenario = _serve(stack, scratch)
        config = _config(addresses, scenario, broker.port, scratch, packages)
        path = scratch / "edge.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        agent = _start(stack, "edge", "run", str(path))
        time.sleep(options.seconds)
        _print(agent.pid, options.seconds)


def _serve(stack: ExitStack, scratch: Path) -> tuple[dict[str, Any], Path]:
    """Starts the simulators; returns where they listen, and their scenario."""
    shipped = yaml.safe_load((CHECKOUT / "simulators" / "scenarios" / "demo.yaml").read_text(encoding="utf-8"))
    scenario, addresses = scratch / "scenario.yaml", scratch / "addresses.json"
    scenario.write_text(yaml.safe_dump(shipped | {"ledger_dir": str(scratch)}), encoding="utf-8")
    _start(stack, "simulators", "serve", str(scenario), "--addresses", str(addresses))
    deadline_s = time.monotonic() + _START_S
    while not addresses.exists():
        if time.monotonic() > deadline_s:
            raise SystemExit("the simulators do not start")
        time.sleep(0.1)
    return json.loads(addresses.read_text(encoding="utf-8")), scenario


def _start(stack: ExitStack, *arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=CHECKOUT, env=os.environ | {configs.TOKEN_ENV: "bench"}
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def _config(
    addresses: Mapping[str, Any], scenario: Path, broker_port: int, scratch: Path, packages: Sequence[Path]
) -> dict[str, Any]:
    printed = subprocess.check_output([sys.executable, "-m", "simulators", "points", scenario, "plant"], cwd=CHECKOUT)
    units = yaml.safe_load(printed)["units"]
    lines = [[unit for unit in units if unit["unit_id"] in ids] for ids in (configs.LINE_A, configs.LINE_B)]
    first, second, third = configs.sources(addresses, *lines)
    home = {
        point["name"]: name
        for name, line in zip(("line-a", "line-b"), lines, strict=True)
        for unit in line
        for point in unit["points"]
    }
    manifests = {each: json.loads((each / "manifest.json").read_text(encoding="utf-8")) for each in packages}
    scenes = [each for each, manifest in manifests.items() if "camera" in manifest]
    return {
        "group": "demo",
        "node": "edge-1",
        "state_dir": str(scratch / "state"),
        "clock": {"wait_s": 0},
        "mqtt": {"host": "127.0.0.1", "port": broker_port},
        "sources": [*first, *second, *(third[0] | {"scene": {"model": str(each.resolve())}} for each in scenes[:1])],
        "models": [_model(each, manifest, home) for each, manifest in manifests.items() if each not in scenes],
    }


def _model(package: Path, manifest: Mapping[str, Any], home: Mapping[str, str]) -> dict[str, Any]:
    sources = dict.fromkeys(given.get("metric", given["name"]) for given in manifest["inputs"])
    # The exchange's metrics are its symbols'.
    inputs = {name: f"{home[name]}/{name}" if name in home else f"exchange/AAPL/{name}" for name in sources}
    return {"name": manifest["name"], "directory": str(package.resolve()), "inputs": inputs}


def _print(pid: int, seconds: float) -> None:
    agent = psutil.Process(pid)
    whole = usage(pid)
    print(f"{'process':<40}{'PSS MiB':>10}{'RSS MiB':>10}")
    for process in (agent, *agent.children(recursive=True)):
        memory = process.memory_full_info()
        name = "agent" if process.pid == pid else " ".join(process.cmdline()[1:3])
        print(f"{name:<40}{memory.pss / _MIB:>10.1f}{memory.rss / _MIB:>10.1f}")
    print(f"{'all':<40}{whole.resident_mib:>10.1f}")
    print(f"CPU {100 * whole.cpu_s / seconds:.1f} % of a core over {seconds:g} s, the start included")


if __name__ == "__main__":
    main()
