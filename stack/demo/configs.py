"""The roles' configurations for a demo, as documents; what is random about them is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stack.demo.layout import GROUP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stack.demo.layout import Layout

Document = dict[str, Any]

SYMBOLS: Final = ("AAPL", "GOOG", "IBM", "MSFT")
# Which plant units each agent polls.
LINE_A: Final = (1, 2)
LINE_B: Final = (3, 4)
TOKEN_ENV: Final = "HEADWATER_EXCHANGE_TOKEN"  # noqa: S105  # the name of a variable
CAMERA_INTERVAL_S: Final = 1.0


def scenario(layout: Layout, seed: int, shipped: Document) -> Document:
    """What the simulators do: the scenario that ships with them, our seed, and a token that the exchange asks for."""
    simulators = [
        {**simulator, "token_env": TOKEN_ENV, "symbols": list(SYMBOLS)}
        if simulator["type"] == "exchange"
        else simulator
        for simulator in shipped["simulators"]
    ]
    return {**shipped, "seed": seed, "ledger_dir": str(layout.ledgers), "simulators": simulators}


def edge(layout: Layout, node_no: int, sources: Sequence[Document], models: Sequence[Document]) -> Document:
    """An agent's configuration; `node_no` counts from 1."""
    return {
        "group": GROUP,
        "node": f"edge-{node_no}",
        "state_dir": str(layout.state(f"edge-{node_no}")),
        # A demo's machine may have been started a minute ago, and nobody sets its clock.
        "clock": {"wait_s": 0},
        "mqtt": {"host": "127.0.0.1", "port": layout.ports.mqtt},
        "health": {"port": layout.ports.edge_health[node_no - 1]},
        "sources": list(sources),
        "models": list(models),
    }


def plant_source(name: str, address: Mapping[str, Any], units: Sequence[Document]) -> Document:
    """The poll of some of the plant's units; `units` are as `python -m simulators points` prints them."""
    return {
        "type": "modbus",
        "name": name,
        "interval_s": 1.0,
        "timeout_s": 3.0,
        "host": address["host"],
        "port": address["port"],
        "units": list(units),
    }


def sources(
    addresses: Mapping[str, Any], line_a: Sequence[Document], line_b: Sequence[Document]
) -> list[list[Document]]:
    """What each of the three agents polls: all four kinds of source between them."""
    exchange = {
        "type": "rest",
        "name": "exchange",
        "interval_s": 1.0,
        "preset": "finnhub",
        "base_url": addresses["exchange"]["url"],
        "secret_env": TOKEN_ENV,
        # The simulated exchange never closes, and has no plan that is free.
        "hours": "always",
        "limits": {},
        "symbols": list(SYMBOLS),
    }
    weather = {
        "type": "rest",
        "name": "weather",
        "interval_s": 2.0,
        "preset": "open-meteo",
        "limits": {},
        "base_url": addresses["weather"]["url"],
        "latitude": 52.52,
        "longitude": 13.41,
    }
    camera = {
        "type": "camera",
        "name": "gate",
        "interval_s": CAMERA_INTERVAL_S,
        "url": addresses["gate"]["mjpeg"],
    }
    return [
        [plant_source("line-a", addresses["plant"], line_a), weather],
        [plant_source("line-b", addresses["plant"], line_b), exchange],
        [camera],
    ]


def bridge(layout: Layout) -> Document:
    """The bridge's configuration."""
    return {
        "mqtt": {"host": "127.0.0.1", "port": layout.ports.mqtt},
        "groups": [GROUP],
        "kafka": {"bootstrap_servers": [f"127.0.0.1:{layout.ports.kafka}"]},
        "health": {"port": layout.ports.bridge_health},
    }


def stream(layout: Layout, jars_dir: str, forecasting: Document | None) -> Document:
    """The Spark job's configuration; its DSN comes from the environment."""
    return {
        "kafka": {"bootstrap_servers": [f"127.0.0.1:{layout.ports.kafka}"]},
        "checkpoint_dir": str(layout.state("stream")),
        "spark": {"master": "local[4]", "jars_dir": jars_dir},
        "health": {"port": layout.ports.stream_health},
        "forecasting": forecasting,
    }


def targets(layout: Layout, line_a: Sequence[Document], line_b: Sequence[Document]) -> list[Document]:
    """Which ledger each device's readings are held against."""

    def target(source: str, ledger: str, node_no: int, **more: object) -> Document:
        path = str(layout.ledgers / f"{ledger}.jsonl")
        return {"source": source, "ledger": path, "group": GROUP, "node": f"edge-{node_no}", "device": source, **more}

    return [
        target("line-a", "plant", 1, metrics=_names(line_a)),
        target("line-b", "plant", 2, metrics=_names(line_b)),
        target("exchange", "exchange", 2),
        target("weather", "weather", 1),
        target("gate", "gate", 3, interval_s=CAMERA_INTERVAL_S),
    ]


def _names(units: Sequence[Document]) -> list[str]:
    return [point["name"] for unit in units for point in unit["points"]]
