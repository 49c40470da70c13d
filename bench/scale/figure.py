"""The sweeps and the soak as figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

from bench.scale.system import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from bench.scale.sweep import Measured


def draw_costs(measured: Sequence[Measured], path: Path) -> None:
    """CPU-seconds per million readings, stacked by part, one panel for what is varied."""
    varied = list(dict.fromkeys(m.point.varied for m in measured))
    figure, panels = plt.subplots(
        1, len(varied), figsize=(3.2 * len(varied), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, name in zip(panels[0], varied, strict=True):
        mine = [m for m in measured if m.point.varied == name]
        base = [0.0] * len(mine)
        for part in PARTS:
            heights = [m.per_million(part) for m in mine]
            axes.bar(range(len(mine)), heights, bottom=base, label=part)
            base = [low + height for low, height in zip(base, heights, strict=True)]
        axes.set_xticks(range(len(mine)), [f"{m.point.value:,}" for m in mine])
        axes.set_xlabel(name)
    panels[0][0].set_ylabel("CPU-seconds per million readings")
    panels[0][-1].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def draw_soak(samples: Mapping[str, NDArray[np.float64]], path: Path) -> None:
    """PSS over the hours, one line a part; `samples` are arrays [samples, 3]."""
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    for part, found in samples.items():
        axes.plot(found[:, 0] * 60, found[:, 1], label=part)
    axes.set_xlabel("minutes")
    axes.set_ylabel("PSS, MiB")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
