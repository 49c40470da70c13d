"""The models of a demo, where `make models` has made them: served by the Spark job, and run by the agents, too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from stack.demo.layout import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from stack.demo.layout import Layout

    Document = dict[str, Any]

_LINE_A: Final = f"{GROUP}/edge-1/line-a"
_LINE_B: Final = f"{GROUP}/edge-2/line-b"
_EXCHANGE: Final = f"{GROUP}/edge-2/exchange"
_AS_DEVICE: Final = "{group}/{node}/{model}"
_EVERY_S: Final = 5.0
# The plant's day in the demo's scenario.
_DAY_S: Final = 300.0
# What plant-anomaly looks at beside line-a: no agent sees both.
_OF_LINE_B: Final = ("quality/flow", "quality/chlorine", "quality/ph", "chlorine/dose_rate")

_BINDINGS: Final[tuple[Mapping[str, Any], ...]] = (
    {"model": "tank-level", "devices": [_LINE_A], "every_s": _EVERY_S, "edge": _AS_DEVICE, "season_s": _DAY_S},
    {"model": "pump-anomaly", "devices": [_LINE_A], "edge": _AS_DEVICE},
    {
        "model": "plant-anomaly",
        "devices": [_LINE_A],
        "metrics": {metric: {"device": _LINE_B, "metric": metric} for metric in _OF_LINE_B},
    },
    {
        "model": "stock-minute",
        "devices": [_EXCHANGE],
        "metrics": {"price": "{subject}/price"},
        "edge": f"{_AS_DEVICE}-{{subject}}",
    },
)
# Node, source that its inputs are of; those of stock-minute are of a symbol each.
_ON_DEVICES: Final = {"tank-level": (1, "line-a"), "pump-anomaly": (1, "line-a"), "stock-minute": (2, "exchange")}


def link(layout: Layout, made_in: Path) -> dict[str, Path]:
    """Links the packages that there are into the demo's directory of models; where each is, by name."""
    layout.models.mkdir()
    found = {}
    for binding in _BINDINGS:
        package = made_in / binding["model"] / "package"
        if (package / "manifest.json").is_file():
            found[binding["model"]] = layout.models / binding["model"]
            found[binding["model"]].symlink_to(package.resolve())
    return found


def forecasting(layout: Layout, models: Mapping[str, Path]) -> Document:
    """What the Spark job serves, and which devices that is for."""
    return {
        "models_dir": str(layout.models),
        "bindings": [dict(binding) for binding in _BINDINGS if binding["model"] in models],
        # A demo is short.
        "rescan_s": 30.0,
    }


def on_device(node_no: int, models: Mapping[str, Path], symbols: Sequence[str]) -> list[Document]:
    """The models that an agent runs itself."""
    return [
        {"name": device, "directory": str(models[name]), "inputs": inputs, "every_s": every_s}
        for name, (node, source) in _ON_DEVICES.items()
        if node == node_no and name in models
        for device, inputs, every_s in _devices(name, source, _sources(models[name]), symbols)
    ]


def _devices(
    name: str, source: str, metrics: Sequence[str], symbols: Sequence[str]
) -> Iterator[tuple[str, dict[str, str], float]]:
    if name == "stock-minute":
        for symbol in symbols:
            yield f"{name}-{symbol}", {metric: f"{source}/{symbol}/{metric}" for metric in metrics}, 60.0
    else:
        yield name, {metric: f"{source}/{metric}" for metric in metrics}, _EVERY_S


def _sources(package: Path) -> list[str]:
    """The metrics that a model's inputs are made of, each once."""
    inputs = json.loads((package / "manifest.json").read_text())["inputs"]
    return list(dict.fromkeys(each.get("metric") or each["name"] for each in inputs))
