"""The contest as a figure: rows a second, beside the bare COPY."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def draw(rates: Mapping[str, float], exactly_once: Mapping[str, str], path: Path) -> None:
    """A bar for each contestant, the fastest at the top, with its share of the first one's rate."""
    floor = next(iter(rates.values()))
    names = list(rates)[::-1]
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.6 * len(names)), constrained_layout=True)
    colours = ["tab:blue" if exactly_once[name] == "yes" else "tab:gray" for name in names]
    bars = axes.barh(names, [rates[name] for name in names], color=colours)
    axes.bar_label(bars, [f" {rates[name]:,.0f}  ({rates[name] / floor:.2f})" for name in names])
    axes.set_xlim(0, max(rates.values()) * 1.2)
    axes.set_xlabel("rows a second, Kafka to committed (blue: exactly once)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
