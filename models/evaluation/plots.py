"""The pictures of a forecast's report, each drawn from what `evaluation.json` says."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib import dates

from models.evaluation.report import ACCENT, FAINT, GRID, INK, LINES, WARM, Plot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Record: TypeAlias = Mapping[str, Any]


def split_plot(folds: Sequence[Record]) -> Plot:
    """Which time is what, fold by fold."""
    return Plot(
        partial(_draw_split, folds),
        alt=f"{len(folds)} folds, each trained on what is before its test, with a gap between",
        caption="Learnt (blue), to know when to stop (grey), judged (orange); between them a gap as long as a window "
        "and the longest horizon.",
        size=(4.8, 0.9 + 0.4 * len(folds)),
    )


def learning_plot(learning: Sequence[Record], history: Record) -> Plot:
    """Losses by epoch."""
    return Plot(
        partial(_draw_learning, learning, history),
        alt="loss by epoch",
        caption="Dashed in training, solid in validation, by fold and seed"
        + ("; black: the model that ships." if history else "."),
    )


def skill_plot(comparisons: Sequence[Record], target: str, step: str) -> Plot:
    """By horizon, against each."""
    found = [
        each for each in comparisons if each["target"] == target and each["measure"] == "pinball" and each["horizon"]
    ]
    return Plot(
        partial(_draw_skill, found, step),
        alt=f"skill of {target} by horizon with 95 % intervals",
        caption=f"{target}: skill by horizon with its 95 % interval; above the line the model is better.",
    )


def reliability_plot(scores: Sequence[Record], target: str, quantiles: Sequence[float]) -> Plot:
    """How often it came below each quantile."""
    found = [each for each in scores if each["target"] == target and each["by"] == "model" and each["horizon"]]
    return Plot(
        partial(_draw_reliability, found, quantiles),
        alt=f"reliability of the quantiles of {target}",
        caption=f"{target}: the share of outcomes at or below each quantile, by horizon; on the diagonal it is honest.",
    )


def coverage_plot(coverage: Sequence[Record], target: str, nominal: float) -> Plot:
    """The share within the interval as time passes."""
    found = [each for each in coverage if each["target"] == target]
    return Plot(
        partial(_draw_coverage, found, nominal),
        alt=f"coverage of {target} over time",
        caption=f"{target}: share of outcomes within the interval, over time; {100 * nominal:.0f} % would be right.",
    )


def fan_plot(example: Record, quantiles: Sequence[float], step: str, unit: str | None) -> Plot:
    """What was known, what was told then, and what came."""
    made_at = _utc(example["end_ms"])
    return Plot(
        partial(_draw_fan, example, step, unit),
        alt=f"{example['target']} of {example['table']}: forecast made at {made_at:%Y-%m-%d %H:%M} UTC and what came",
        caption=f"{example['target']} of {example['table']}, told at {made_at:%Y-%m-%d %H:%M:%S} UTC: "
        f"p{100 * quantiles[0]:g} to p{100 * quantiles[-1]:g}, the middle, and what came (orange).",
    )


def _draw_split(folds: Sequence[Record], figure: Figure) -> None:
    axes = figure.subplots()
    for row, fold in enumerate(folds):
        for name, colour in (("train", ACCENT), ("valid", FAINT), ("test", WARM)):
            begin, end = (_days(each) for each in fold[f"{name}_ms"])
            axes.barh(row, end - begin, left=begin, height=0.55, color=colour, alpha=0.8)
    axes.set_yticks(range(len(folds)), [f"fold {fold['number']}" for fold in folds])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    _dates(axes)


def _draw_learning(learning: Sequence[Record], history: Record, figure: Figure) -> None:
    axes = figure.subplots()
    for each in learning:
        colour = LINES[(each["fold"] - 1) % 3]
        axes.plot(each["train"], color=colour, linestyle="--", linewidth=0.9, alpha=0.7)
        axes.plot(each["valid"], color=colour, linewidth=1.2, alpha=0.9)
    if history:
        axes.plot(history["train"], color=INK, linestyle="--", linewidth=1.0)
        axes.plot(history["valid"], color=INK, linewidth=1.8)
    axes.set_xlabel("epoch")
    axes.set_ylabel("pinball loss (scaled)")


def _draw_skill(found: Sequence[Record], step: str, figure: Figure) -> None:
    axes = figure.subplots()
    horizons = sorted({each["horizon"] for each in found})
    names = list(dict.fromkeys(each["against"] for each in found))
    bottom, top = 0.0, 0.0
    for number, name in enumerate(names):
        mine = [each for each in found if each["against"] == name]
        at = [horizons.index(each["horizon"]) + (number - (len(names) - 1) / 2) * 0.13 for each in mine]
        skill, low, high = (np.array([100 * each[key] for each in mine]) for key in ("skill", "low", "high"))
        bottom, top = min(bottom, skill.min()), max(top, skill.max())
        bars = np.abs(np.stack([skill - low, high - skill]))
        axes.errorbar(
            at, skill, bars, fmt="o", markersize=4, linewidth=1.4, color=LINES[number % len(LINES)], label=name
        )
    reach = max(5.0, top - bottom)
    axes.set_ylim(bottom - 0.6 * reach, top + 0.6 * reach)
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xticks(range(len(horizons)), [str(each) for each in horizons])
    axes.set_xlabel(f"horizon, steps of {step}")
    axes.set_ylabel("skill, %")
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 1.2),
        ncols=len(names),
        fontsize=7,
        handletextpad=0.1,
        columnspacing=0.9,
    )


def _draw_reliability(found: Sequence[Record], quantiles: Sequence[float], figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=FAINT, linewidth=1, linestyle="--")
    for number, each in enumerate(found):
        share = each["numbers"]["reliability"]
        axes.plot(
            quantiles,
            share,
            "o-",
            color=LINES[number % len(LINES)],
            linewidth=1.3,
            markersize=4,
            label=f"{each['horizon']}",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("quantile")
    axes.set_ylabel("share at or below")
    axes.legend(title="horizon", fontsize=7, title_fontsize=7, loc="upper left")


def _draw_coverage(found: Sequence[Record], nominal: float, figure: Figure) -> None:
    axes = figure.subplots()
    axes.axhline(nominal, color=FAINT, linewidth=1, linestyle="--")
    axes.plot([_days(each["from_ms"]) for each in found], [each["coverage"] for each in found], "o-", markersize=3)
    axes.set_ylim(0, 1)
    _dates(axes)


def _draw_fan(example: Record, step: str, unit: str | None, figure: Figure) -> None:
    axes = figure.subplots()
    past, came = example["past"], [_number(each) for each in example["came"]]
    told = np.array(example["told"], np.float64)  # [horizons, quantiles]
    at, ahead, start = np.array(example["horizons"], np.float64), np.array(example["ahead"]), past[-1]
    is_value = len(ahead) == ahead[-1]  # at each step, not over steps: the fan opens where it was
    if is_value and start is not None:
        at, told = np.r_[0.0, at], np.vstack([np.full(told.shape[1], start), told])
        ahead, came = np.r_[0, ahead], [start, *came]
    marker = "" if is_value else "o"
    axes.plot(range(1 - len(past), 1), [_number(each) for each in past], color=INK, linewidth=1.2)
    for inner in range(told.shape[1] // 2):
        axes.fill_between(at, told[:, inner], told[:, -1 - inner], color=ACCENT, alpha=0.22, linewidth=0)
    if told.shape[1] % 2:
        axes.plot(at, told[:, told.shape[1] // 2], color=ACCENT, linewidth=1.6, marker=marker, markersize=4)
    axes.plot(ahead, came, color=WARM, linewidth=1.2, marker=marker, markersize=4)
    axes.axvline(0, color=GRID, linewidth=1.2)
    axes.set_xlabel(f"steps of {step} from then on")
    axes.set_ylabel(unit or "")


def _dates(axes: Axes) -> None:
    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))


def _days(at_ms: int) -> float:
    """As matplotlib has times: days since 1970."""
    return at_ms / 86_400_000


def _utc(at_ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
