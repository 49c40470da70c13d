# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An anomaly model: from plant data to a threshold
#
# A water plant has tanks, pumps and instruments, and nobody has labelled faults to learn from. So
# a model learns what is *normal*: it writes each window of readings again through fewer numbers
# than the window has. What it has never seen comes out changed, and how much is the **score**.
# This notebook goes from the readings to
#
# 1. a threshold for a *stated* rate of false alarms,
# 2. how many faults are then found, how soon, and of which kind,
# 3. which instruments an operator should look at,
# 4. and whether a score that needs no training would have done as well.
#
# Everything here calls the package `models`, as `python -m models make plant-anomaly` does. With
# `HEADWATER_QUICK=1` it runs in seconds, on a tenth of the data: its numbers are then good for
# nothing.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogFormatter
from rich.console import Console

import models
from models.anomaly.events import is_alarmed
from models.anomaly.judging import found_by_kind, judge, pointed_at, shares_by_event
from models.anomaly.parts import past_of, test_of
from models.anomaly.precision import ranked
from models.anomaly.scoring import NET, NEWEST, WINDOW, Scored, references
from models.anomaly.stage import stated_rate
from models.anomaly.threshold import threshold_of
from models.anomaly.training import train_autoencoder
from models.options import DATA, Options
from models.recipe import quick
from models.recipes.plant_anomaly import PLANT_ANOMALY

QUICK = os.environ.get("HEADWATER_QUICK") == "1"
ROOT = Path(models.__path__[0]).parent
plt.style.use(ROOT / "models/notebooks/headwater.mplstyle")

options = Options(console=Console(quiet=True), data=ROOT / DATA, quick=QUICK)
recipe = quick(PLANT_ANOMALY) if QUICK else PLANT_ANOMALY
view = recipe.view
names = [each.name for each in view.features]

# %% [markdown]
# ## What is normal
#
# The simulated plant runs for hours without a fault, several times by other seeds. Each
# instrument is read every second; the model looks at means of a few seconds. Nothing in here is
# constant, and little is independent: what a pump lifts follows its speed, its current follows
# what it lifts, its bearing follows its current minutes later.

# %%
past = past_of(recipe, options)
table = past.dataset.tables[0]
minutes = (table.steps.at_ms - table.steps.at_ms[0]) / 60_000
shown = minutes < 45

figure, axes = plt.subplots(3, 2, figsize=(9, 4.6), sharex=True)
for name, ax in zip(
    (
        "tank1/level",
        "intake/flow",
        "pump1/speed",
        "pump1/flow",
        "pump1/bearing_temperature",
        "quality/chlorine",
    ),
    axes.flat,
    strict=True,
):
    ax.plot(
        minutes[shown], table.steps.values[shown, past.dataset.columns.index(name)], linewidth=0.9
    )
    ax.set_title(f"{name} ({past.dataset.units[name]})")
for ax in axes[-1]:
    ax.set_xlabel("minutes")
plt.show()

# %% [markdown]
# ## Windows, and what each is for
#
# Normal windows are divided by time, with a gap of a window between the parts: neighbours share
# most of their steps, and a threshold set by windows that were learnt from would be too low.

# %%
print(
    f"a window: {view.window.length} steps of {view.window.step_s:g} s, {len(names)} features of {past.dataset.name!r}"
)
pd.DataFrame(
    [
        ("train", len(past.train), "the weights are learnt from"),
        ("valid", len(past.valid), "says when to stop"),
        ("calibration", len(past.calibration), "sets the threshold; nothing was learnt from it"),
    ],
    columns=["part", "windows", "for"],
).set_index("part")

# %% [markdown]
# ## The autoencoder
#
# An LSTM writes each few steps as a few numbers, another one makes the steps of them again.
# Features count in units of what the *others* do not foretell of them: a flow that is a tenth too
# low for the pump's speed is a fault, although the flow itself moves by much more than that all
# day. Below, mind the axes: what is written again is off by tenths of a per cent.

# %%
net = train_autoencoder(recipe, past.train, past.valid, seed=options.seed)
window = past.calibration.x[:1]
again = net.model.predict_on_batch(window)

figure, axes = plt.subplots(1, 3, figsize=(9, 2.8))
axes[0].plot(net.history[:, 0], "o--", markersize=3, label="training")
axes[0].plot(net.history[:, 1], "o-", markersize=3, label="newer windows")
axes[0].set(title="loss by epoch", xlabel="epoch", yscale="log")
axes[0].yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
axes[0].yaxis.set_major_formatter(LogFormatter())
axes[0].xaxis.get_major_locator().set_params(integer=True)
axes[0].legend()
seconds = np.arange(view.window.length) * view.window.step_s
for name, ax in zip(("pump1/flow", "pump1/current"), axes[1:], strict=True):
    ax.plot(seconds, window[0, :, names.index(name)], color="black", label="a normal window")
    ax.plot(seconds, again[0, :, names.index(name)], color="C0", label="written again")
    ax.set(title=name, xlabel="seconds")
axes[1].legend()
plt.show()

# %% [markdown]
# ## The threshold
#
# The **score** of a window is the mean square of the difference. Above which score shall there be
# an alarm? Above one that normal windows seldom reach, and *seldom* is a number that the recipe
# states. The threshold is an order statistic of the calibration's scores: no distribution is
# assumed. Since neighbouring windows are nearly the same, the number of *independent* ones says
# how sure that rate is, and a rate that they cannot show is refused.

# %%
scores = net.scores(past.calibration.x)
independent = len(past.calibration) / view.window.length
rate = stated_rate(recipe, options, independent)
threshold = threshold_of(scores, independent, rate)
print(f"threshold {threshold.level:.3g}, an alarm is over below {threshold.clear:.3g}")
print(f"stated: {rate:.2%} of normal windows are above; by {independent:.0f} independent windows")
print(f"the true rate is, with 95 %, between {threshold.low:.2%} and {threshold.high:.2%}")

figure, ax = plt.subplots(figsize=(9, 2.6))
ax.hist(scores, np.geomspace(scores.min(), 2 * threshold.level, 120), color="C0", alpha=0.7)
ax.axvline(threshold.level, color="C1", label="threshold")
ax.axvline(threshold.clear, color="C1", linestyle=":", label="clear")
ax.set(xscale="log", xlabel="score of normal windows", yticks=[])
ax.legend()
plt.show()

# %% [markdown]
# ## Faults
#
# Another run of the plant, by other seeds, in which things break: leaks, worn bearings,
# instruments that stick. Here it is known what was wrong, and when. The model is now shown all of
# it.

# %%
test = test_of(recipe, options)
errors = net.errors(test.samples.x)  # [windows, features]
scored = Scored(NET, options.seed, scores, errors.mean(axis=1), errors, net.history)

mine = test.samples.table == 0
begin_ms = test.samples.end_ms[mine][0]
at = (test.samples.end_ms[mine] - begin_ms) / 60_000  # minutes
alarmed = is_alarmed(scored.test[mine], threshold.level, threshold.clear)
events = [each.incident for each in test.truth.events if each.table == 0]
colours = {kind: f"C{number}" for number, kind in enumerate(dict.fromkeys(e.kind for e in events))}

figure, ax = plt.subplots(figsize=(9, 4))
for each in events:
    begin, end = (each.start_ms - begin_ms) / 60_000, (each.end_ms - begin_ms) / 60_000
    ax.axvspan(begin, end, color=colours[each.kind], alpha=0.3, linewidth=0)
ax.semilogy(at, scored.test[mine], color="black", linewidth=0.7)
ax.axhline(threshold.level, color="C1", linewidth=1)
bottom = ax.get_ylim()[0]
ax.fill_between(at, bottom, 1.5 * bottom, where=alarmed.tolist(), color="black", linewidth=0)
ax.set(xlim=(0, min(150, at[-1])), xlabel="minutes", ylabel="score")
ax.set_title("score and threshold; known faults shaded; alarms below")
handles = [plt.Rectangle((0, 0), 1, 1, color=colour, alpha=0.3) for colour in colours.values()]
words = [kind.replace("_", " ") for kind in colours]
figure.legend(handles, words, loc="outside lower center", ncols=5)
plt.show()

# %% [markdown]
# ## Precision and recall, by event
#
# An operator does not live through windows but through *events*. A fault is found when an alarm
# begins while it lasts, or up to a window's length after; an alarm at any other time is false.
# Beside the net stand two scores that need **no training**: how far each reading is from its
# median, in median deviations, squared and averaged, of the newest step or of the window. They
# get their thresholds in the same way. And principal components: an autoencoder without a bend.

# %%
judged = [
    judge(each, test, independent, rate) for each in (scored, *references(recipe, past, test))
]
by_method = {each.scored.method: each for each in judged}
pd.DataFrame(
    {
        name: {
            "average precision (windows)": each.average_precision,
            "precision (events)": each.events.precision,
            "recall (events)": each.events.recall,
            "F1": each.events.f1,
            "median delay, s": np.median(each.events.delays_s) if each.events.delays_s else np.nan,
            "false alarms": each.events.false_alarms,
            "normal windows above threshold, %": 100 * each.false_share,
        }
        for name, each in by_method.items()
    }
).T.round(2)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), width_ratios=(1, 1.25))
for name, each in by_method.items():
    keep = test.truth.is_judged
    recall, precision = ranked(each.scored.test[keep], test.truth.is_incident[keep]).curve()
    left.plot(recall, precision, label=name.replace("_", " "))
left.set(title="by window, at any threshold", xlabel="recall", ylabel="precision", ylim=(0, 1.03))
left.legend()

kinds = test.truth.kinds
rows = np.arange(len(kinds))
for number, name in enumerate((NET, NEWEST, WINDOW)):
    found = found_by_kind(test.truth, by_method[name].events)
    shares = [100 * found[kind][0] / found[kind][1] for kind in kinds]
    right.barh(
        rows + 0.27 * (number - 1), shares, 0.25, color=f"C{number}", label=name.replace("_", " ")
    )
counts = found_by_kind(test.truth, by_method[NET].events)
right.set_yticks(rows, [f"{kind.replace('_', ' ')} ({counts[kind][1]})" for kind in kinds])
right.invert_yaxis()
right.grid(visible=False, axis="y")
right.set(title="events found by kind, %, at the threshold", xlim=(0, 100))
plt.show()

# %% [markdown]
# ## Where to look
#
# The score is a mean over features, so each feature has a share in it. The device sends the
# greatest along with the alarm. A row below is an event that was found; where the name of the
# place that broke is known, it can be checked.

# %%
shares = shares_by_event(test.truth, errors)  # [events, features]
found = by_method[NET].events.found
right_place = pointed_at(test.truth, shares, found, view)
rows = [number for number in np.linspace(0, len(found) - 1, 40).astype(int) if found[number]][:12]

figure, ax = plt.subplots(figsize=(9, 4.4))
image = ax.imshow(100 * shares[rows], aspect="auto", cmap="Blues", vmin=0)
events = [test.truth.events[number] for number in rows]
ax.set_yticks(
    range(len(rows)),
    [f"{each.kind.replace('_', ' ')}: {each.incident.what or '-'}" for each in events],
)
ax.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
ax.grid(visible=False)
figure.colorbar(image, label="share of the score, %", shrink=0.8)
if right_place is not None:
    ax.set_title(f"of all faults found {right_place:.0%} point first at the place that broke")
plt.show()

# %% [markdown]
# ## What to take home
#
# - A threshold is worth what its calibration is worth: the rate it states holds for windows like
#   those that set it. If the table above shows far more normal windows above the threshold than
#   was stated, normal has changed.
# - A stuck instrument that sticks at a usual value is hard to see for anybody: many are missed.
# - Look at principal components, too. Where a line does as well as the net, what the net has
#   learnt is a line, and the simpler one will do.
# - Look at the robust scores beside the net in every report. Where they do as well, use them:
#   they have no weights, need no training, and nobody has to explain them. `python -m models make
#   plant-anomaly` judges several trainings and says with an interval whether the net is better.
