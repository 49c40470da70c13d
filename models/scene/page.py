"""The report of a camera's model, for a person who decides whether to trust it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation.report import ACCENT, FAINT, WARM, Grid, Page, Plot, Section
from models.scene.documents import SAID
from models.scene.judging import NET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from models.scene.documents import Made


def page_of(made: Made, document: dict[str, Any], *, is_quick: bool) -> Page:
    """The whole page; `document` is the evaluation's."""
    samples, trained = made.samples, made.trained
    facts = (
        ("camera", samples.camera),
        ("pictures", f"{len(trained.learnt)} learnt from, {len(trained.held)} held back, {samples.origin}"),
        ("hours", f"{samples.quiet_hours} UTC: of others it knows nothing"),
        ("threshold", f"{trained.threshold.level:.3g}, stated for {trained.threshold.rate:.2%} of usual pictures"),
        ("usual error", f"{trained.net.usual:.3g} grey levels squared"),
    )
    return Page(made.title, made.name, made.verdicts, facts, _sections(made, document), is_quick=is_quick)


def _sections(made: Made, document: dict[str, Any]) -> tuple[Section, ...]:
    methods, pictures = document["methods"], document["pictures"]
    how = "made up of its own pictures" if made.is_made_up else "with what is known to have happened"
    text = (
        f"{pictures['incident']} pictures of incidents, {how}, among {pictures['normal']} that are usual. The others "
        "are given the threshold at which they have as many false alarms in this test as the net, which favours them."
    )
    kinds = Section(
        "What it tells from what is usual",
        (text,),
        (_grid(methods, "average_precision", "Average precision"), _grid(methods, "recall", "Share above threshold")),
        plots=(_scores_plot(made),),
    )
    return (kinds, *_events(document["events"]), _learning(made))


def _grid(methods: dict[str, Any], measure: str, caption: str) -> Grid:
    names = sorted(methods, key=lambda name: name != NET)
    kinds = methods[NET]["kinds"]
    rows = [(kind, *(f"{methods[name]['kinds'][kind][measure]:.3f}" for name in names)) for kind in kinds]
    if measure in methods[NET]:
        rows.append(("all that a picture can show", *(f"{methods[name][measure]:.3f}" for name in names)))
    return Grid(("incident", *(SAID[name] for name in names)), tuple(rows), caption)


def _events(events: dict[str, Any] | None) -> tuple[Section, ...]:
    if events is None:
        return ()
    rows = tuple(
        (kind, str(each["found"]), str(each["events"]), "" if each["delay_s"] is None else f"{each['delay_s']:.0f} s")
        for kind, each in events["kinds"].items()
    )
    hourly = events["false_alarms_per_hour"] or 0.0
    text = f"{events['false_alarms']} false alarms, {hourly:.2g} in an hour in which nothing happened."
    return (Section("By event", (text,), (Grid(("incident", "found", "of", "median delay"), rows),)),)


def _scores_plot(made: Made) -> Plot:
    return Plot(
        partial(_draw_scores, made),
        alt="the net's scores by what the pictures show, and the threshold",
        caption="Scores of pictures: median, and from 5 to 95 of a hundred. The line is the threshold.",
        size=(7.2, 3.0),
    )


def _draw_scores(made: Made, figure: Figure) -> None:
    axes = figure.add_subplot()
    judged = made.judged
    names = ["", *judged.kinds]
    found = [np.quantile(judged.scores[NET][judged.kind == name], (0.05, 0.5, 0.95)) for name in names]
    low, middle, high = np.array(found).T
    axes.hlines(range(len(names)), low, high, color=FAINT, linewidth=4)
    axes.plot(middle, range(len(names)), "o", color=ACCENT)
    axes.axvline(judged.level, color=WARM)
    axes.set_yticks(range(len(names)), [name or "usual" for name in names])
    axes.set_xlabel("score")


def _learning(made: Made) -> Section:
    plot = Plot(partial(_draw_learning, made), alt="loss by epoch", caption="Loss by epoch.")
    return Section("Training", plots=(plot,))


def _draw_learning(made: Made, figure: Figure) -> None:
    axes = figure.add_subplot()
    history = made.trained.history
    for column, name in enumerate(("learnt from", "held back")):
        axes.plot(np.arange(1, len(history) + 1), history[:, column], label=name)
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.legend()
