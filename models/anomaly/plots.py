"""The pictures of an anomaly model's report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.anomaly.judging import events_by_place
from models.anomaly.precision import ranked
from models.anomaly.scoring import SAID
from models.evaluation.report import ACCENT, FAINT, GREEN, INK, LINES, WARM, Plot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from models.anomaly.evaluation import AnomalyEvaluation
    from models.anomaly.judging import Judged

# More points than a picture is wide would be drawn over each other.
_MOST_POINTS: Final = 1500
_MOST_EVENTS: Final = 50
_MINUTE_MS: Final = 60_000


def curve_plot(made: AnomalyEvaluation) -> Plot:
    """Precision by recall."""
    return Plot(
        partial(_draw_curve, made),
        alt="precision by recall of the net and of what it is compared with",
        caption="Precision by recall, by window, over all thresholds; dots: at each one's own threshold.",
        size=(5.2, 3.2),
    )


def score_plot(made: AnomalyEvaluation) -> Plot:
    """The score over time, with the incidents."""
    table = made.test.truth.events[0].table
    key = made.test.dataset.tables[table].key
    return Plot(
        partial(_draw_score, made, table),
        alt=f"score of {key} over time, incidents shaded",
        caption=f"Score over time ({key}); shaded: something was wrong; lines: threshold, and where an alarm is over.",
    )


def scores_plot(made: AnomalyEvaluation) -> Plot:
    """How scores are distributed where all is well and where it is not."""
    return Plot(
        partial(_draw_scores, made),
        alt="distribution of scores of normal windows and of incidents",
        caption="Scores: normal windows that set the threshold (grey), new normal ones (blue), incidents (orange).",
        size=(7.2, 2.4),
    )


def found_plot(made: AnomalyEvaluation) -> Plot:
    """How many of each kind were found, by the net and by the strongest other."""
    return Plot(
        partial(_draw_found, made),
        alt="share of events found, by kind",
        caption=f"Share of events found, by kind: the net (mean of its trainings), and {SAID[made.strongest]}.",
        size=(5.2, 3.2),
    )


def shares_plot(made: AnomalyEvaluation) -> Plot:
    """What contributed to the score, by what was wrong."""
    groups = events_by_place(made.test.truth)
    return Plot(
        partial(_draw_shares, made, groups),
        alt="contribution of each feature to the score, by what was wrong",
        caption="Share of the score by feature while something was wrong, mean over its incidents: darker is more.",
        size=(7.2, 1.6 + 0.22 * len(groups)),
    )


def learning_plot(nets: Sequence[Judged]) -> Plot:
    """Losses by epoch."""
    return Plot(
        partial(_draw_learning, nets),
        alt="loss by epoch",
        caption="Dashed in training, solid in validation, by seed; epoch 0 is before the first.",
        size=(5.2, 3.2),
    )


def _draw_curve(made: AnomalyEvaluation, figure: Figure) -> None:
    axes, truth = figure.subplots(), made.test.truth
    chosen = truth.is_judged
    shown = (made.nets[0], *made.others.values())
    for each, colour in zip(shown, (ACCENT, WARM, GREEN, FAINT), strict=True):
        ranking = ranked(each.scored.test[chosen], truth.is_incident[chosen])
        recall, precision = ranking.curve()
        axes.plot(recall, precision, color=colour, linewidth=1.4, label=SAID[each.scored.method])
        above = each.scored.test > each.threshold.level
        if (told := np.count_nonzero(above & chosen)) > 0:
            right = np.count_nonzero(above & truth.is_incident)
            axes.plot(right / np.count_nonzero(truth.is_incident), right / told, "o", color=colour, markersize=5)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.legend(fontsize=7, loc="lower left")


def _draw_score(made: AnomalyEvaluation, table: int, figure: Figure) -> None:
    axes, samples, net = figure.subplots(), made.test.samples, made.nets[0]
    spans = [each.incident for each in made.test.truth.events if each.table == table][:_MOST_EVENTS]
    until_ms = spans[-1].end_ms + 3 * made.test.truth.span_ms if len(spans) == _MOST_EVENTS else np.inf
    mine = (samples.table == table) & (samples.end_ms < until_ms)
    since_ms, scores = samples.end_ms[mine][0], net.scored.test[mine]
    minutes = (samples.end_ms[mine] - since_ms) / _MINUTE_MS
    every = -(-len(scores) // _MOST_POINTS)
    # The highest of those that share a point: a short alarm is seen.
    highest = np.maximum.reduceat(scores, np.arange(0, len(scores), every))
    for each in spans:
        span = (each.start_ms - since_ms) / _MINUTE_MS, (each.end_ms - since_ms) / _MINUTE_MS
        axes.axvspan(*span, color=WARM, alpha=0.25, linewidth=0)
    axes.plot(minutes[::every], np.maximum(highest, 1e-6), color=ACCENT, linewidth=0.9)
    axes.axhline(net.threshold.level, color=INK, linewidth=1)
    axes.axhline(net.threshold.clear, color=INK, linewidth=0.8, linestyle=":")
    _logarithmic(axes)
    axes.set_xlabel("minutes")
    axes.set_ylabel("score")


def _draw_scores(made: AnomalyEvaluation, figure: Figure) -> None:
    axes, truth, net = figure.subplots(), made.test.truth, made.nets[0]
    groups = (net.scored.calibration, net.scored.test[truth.is_normal], net.scored.test[truth.is_incident])
    logs = [np.log10(np.maximum(each, 1e-6)) for each in groups]
    edges = np.linspace(min(each.min() for each in logs), max(each.max() for each in logs), 60)
    for values, colour in zip(logs, (FAINT, ACCENT, WARM), strict=True):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, bins=edges.tolist(), weights=weights.tolist(), histtype="step", color=colour, linewidth=1.4)
    axes.axvline(np.log10(net.threshold.level), color=INK, linewidth=1)
    axes.set_xlabel("log10 of the score")
    axes.set_ylabel("share of windows")


def _draw_found(made: AnomalyEvaluation, figure: Figure) -> None:
    axes, truth = figure.subplots(), made.test.truth
    other = made.others[made.strongest]
    for number, (judged, colour) in enumerate(((made.nets, ACCENT), ((other,), WARM))):
        for place, kind in enumerate(truth.kinds):
            is_kind = np.array([event.kind == kind for event in truth.events])
            share = np.mean([np.array(each.events.found)[is_kind].mean() for each in judged])
            axes.barh(place + 0.38 * number, share, height=0.36, color=colour)
    axes.set_yticks(np.arange(len(truth.kinds)) + 0.19, [kind.replace("_", " ") for kind in truth.kinds])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of events found")


def _draw_shares(made: AnomalyEvaluation, groups: Mapping[str, Sequence[int]], figure: Figure) -> None:
    axes: Any = figure.subplots()
    means = np.stack([made.shares[list(rows)].mean(axis=0) for rows in groups.values()])  # [groups, features]
    names = [each.name for each in made.recipe.view.features]
    for row, shares in enumerate(means):
        for column, share in enumerate(shares):
            axes.barh(
                row, 0.92, left=column - 0.46, height=0.84, color=ACCENT, alpha=float(min(1.0, share)), linewidth=0
            )
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(groups)), list(groups), fontsize=7)
    axes.grid(visible=False)


def _draw_learning(nets: Sequence[Judged], figure: Figure) -> None:
    axes = figure.subplots()
    for number, each in enumerate(nets):
        if each.scored.history is not None:
            train, valid = each.scored.history.T
            axes.plot(train, color=LINES[number % len(LINES)], linestyle="--", linewidth=0.9)
            axes.plot(valid, color=LINES[number % len(LINES)], linewidth=1.3)
    _logarithmic(axes)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean score")


def _logarithmic(axes: Axes) -> None:
    """With plain numbers: as powers they would be TeX, which the report does not have."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
