"""The contest as a figure: rates and costs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.bridge.__main__ import Result


def draw(results: Sequence[Result], path: Path) -> None:
    """Two groups of bars over the readings in a message."""
    names = list(dict.fromkeys(result.name for result in results))
    sizes = sorted({result.readings for result in results})
    figure, (rate, cost) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        mine = {result.readings: result for result in results if result.name == name}
        at = [sizes.index(size) + (place - (len(names) - 1) / 2) * width for size in mine]
        rate.bar(at, [result.messages_per_s for result in mine.values()], width, label=name)
        cost.bar(at, [result.cpu_s_per_million for result in mine.values()], width, label=name)
    for axes, title in ((rate, "messages a second"), (cost, "CPU-seconds per million readings")):
        axes.set_title(title)
        axes.set_xticks(range(len(sizes)), [f"{size} a message" for size in sizes])
    cost.set_yscale("log")
    rate.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
