"""An anomaly model's `report.html`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.anomaly.judging import events_by_place, found_by_kind
from models.anomaly.plots import curve_plot, found_plot, learning_plot, score_plot, scores_plot, shares_plot
from models.anomaly.scoring import SAID
from models.evaluation.report import Grid, Page, Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.anomaly.evaluation import AnomalyEvaluation
    from models.anomaly.judging import Judged


def anomaly_page(made: AnomalyEvaluation) -> Page:
    """All of it."""
    return Page(
        title=made.recipe.title,
        name=made.recipe.name,
        verdicts=made.verdict,
        facts=tuple(_facts(made)),
        sections=(_how(made), _methods(made), _kinds(made), _threshold(made), _contributions(made)),
        is_quick=made.is_quick,
    )


def _facts(made: AnomalyEvaluation) -> Iterator[tuple[str, str]]:
    past, test, view = made.past, made.test, made.recipe.view
    yield "Learnt from", f"{past.dataset.title}; {past.dataset.origin}; {len(past.train)} normal windows"
    yield "Judged on", f"{test.dataset.title}; {test.dataset.origin}; {len(test.samples)} windows"
    yield "Licence", test.dataset.licence
    yield "Sees", f"{view.window.length} steps of {view.window.step_s:g} s: {', '.join(f.name for f in view.features)}"
    yield (
        "Events",
        f"{len(test.truth.events)}, in {test.truth.is_incident.sum() / test.truth.is_judged.sum():.0%} of windows",
    )
    yield "Seeds", ", ".join(str(each.scored.seed) for each in made.nets)


def _how(made: AnomalyEvaluation) -> Section:
    where = (
        "another simulation, of which nothing was learnt"
        if made.recipe.judged_on
        else "the newest part of the data, with a gap of a window before it"
    )
    return Section(
        "How it was judged",
        (
            (
                "Learnt, stopped and set to a threshold on normal windows, each on later ones than the one before; "
                f"judged on {where}. An event is found by an alarm that begins in it or up to a window's length after "
                "it; one that was there before tells nobody anything. One that begins in normal time is false. For two "
                "windows' lengths after an event nothing is counted. All scores have the same rule for their threshold."
            ),
        ),
        plots=(score_plot(made), learning_plot(made.nets)),
    )


def _methods(made: AnomalyEvaluation) -> Section:
    head = ("score", "average precision", "precision", "recall", "F1", "delay", "false alarms a day", "normal above")
    rows = tuple(_method_row(each) for each in (*made.nets, *made.others.values()))
    gains = tuple(
        (SAID[name], f"{each.skill:.2f}", f"{each.low:.2f} to {each.high:.2f}") for name, each in made.gains.items()
    )
    return Section(
        "Against what needs no training",
        (
            (
                "Average precision is by window, over all thresholds; precision, recall and F1 are by event, at the "
                "threshold. Skill is 1 - (1 - average precision) / (1 - that of the other), the mean of the nets; its "
                "interval is from 500 draws of whole incidents with what is around them, and of nets."
            ),
        ),
        (
            Grid(head, rows, "At the threshold", strong=frozenset(range(len(made.nets)))),
            Grid(("against", "skill", "95 % interval"), gains, "Skill"),
        ),
        plots=(curve_plot(made), found_plot(made)),
    )


def _method_row(each: Judged) -> tuple[str, ...]:
    events, seed = each.events, each.scored.seed
    return (
        SAID[each.scored.method] if seed is None else f"{SAID[each.scored.method]}, seed {seed}",
        f"{each.average_precision:.3f}",
        f"{events.precision:.2f}",
        f"{events.recall:.2f}",
        f"{events.f1:.2f}",
        f"{np.median(events.delays_s):.0f} s" if events.delays_s else "-",
        f"{events.false_alarms_per_day:.1f}",
        f"{each.false_share:.2%}",
    )


def _kinds(made: AnomalyEvaluation) -> Section:
    truth, first, other = made.test.truth, made.nets[0], made.others[made.strongest]
    ours, theirs = found_by_kind(truth, first.events), found_by_kind(truth, other.events)
    rows = tuple(
        (
            kind.replace("_", " "),
            str(ours[kind][1]),
            str(ours[kind][0]),
            str(theirs[kind][0]),
            f"{np.mean([each.by_kind[kind] for each in made.nets]):.2f}",
            f"{other.by_kind[kind]:.2f}",
        )
        for kind in truth.kinds
    )
    head = ("kind", "events", "found", "by the other", "average precision", "of the other")
    by_place = tuple(
        (place, str(len(numbers)), *(str(sum(each.events.found[n] for n in numbers)) for each in (first, other)))
        for place, numbers in events_by_place(truth).items()
    )
    return Section(
        "By kind",
        (f"The other is {SAID[made.strongest]}. Found: by the net of the first seed.",),
        (Grid(head, rows),),
        (Grid(head[:4], by_place, "By kind and place"),),
    )


def _threshold(made: AnomalyEvaluation) -> Section:
    one = made.nets[0].threshold
    return Section(
        "Is its threshold honest?",
        (
            (
                f"Stated: {one.rate:.2%} of normal windows are above it. It was set by {one.windows} normal windows, "
                f"worth {one.independent:.0f} that share no step; so few leave the true share between {one.low:.2%} "
                f"and {one.high:.2%} (95 %). An alarm is over below {one.clear:.3g}: ten times as many normal windows "
                "are above that."
            ),
        ),
        plots=(scores_plot(made),),
    )


def _contributions(made: AnomalyEvaluation) -> Section:
    told = (
        "The data does not say where."
        if made.pointed is None
        else f"For {made.pointed:.0%} of the events found, the greatest contribution was from the right place."
    )
    return Section("Does it say where?", (told,), plots=(shares_plot(made),))
