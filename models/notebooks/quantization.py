# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quantization: four forms of one model, side by side
#
# A device has little memory and no TensorFlow. So a net is converted to TFLite, in four *forms*:
#
# | form | weights | sums |
# |---|---|---|
# | float32 | as they were learnt | float32 |
# | float16 | half the bytes | float32 |
# | dynamic | 8 bits | float32, its inputs made 8 bits on the way |
# | int8 | 8 bits | integers throughout: for processors that have nothing else |
#
# Which is best is not to be known beforehand: it depends on the net and on the processor. So all
# of them are made, checked, judged against float by what matters to those who use them, and
# timed. Those that hold go to the device, which times them once more and takes the fastest
# *there*.
#
# Everything here calls the package `models`, as `python -m models quantize stock-day` does. With
# `HEADWATER_QUICK=1` it runs in seconds, with a net that has learnt next to nothing.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown
from rich.console import Console

import models
from models.options import DATA, Options
from models.quantization.forms import exported
from models.quantization.measuring import measure, runtimes
from models.quantization.results import MOST_WORSE
from models.quantization.showing import markdown
from models.quantization.subject import subject_of
from models.quantization.trying import try_forms
from models.recipe import quick
from models.recipes.stock_day import STOCK_DAY
from models.training.stage import train

QUICK = os.environ.get("HEADWATER_QUICK") == "1"
ROOT = Path(models.__path__[0]).parent
plt.style.use(ROOT / "models/notebooks/headwater.mplstyle")

work = ROOT / (".models/notebooks-quick" if QUICK else ".models/notebooks")
options = Options(console=Console(quiet=True), data=ROOT / DATA, work=work, quick=QUICK)
recipe = quick(STOCK_DAY) if QUICK else STOCK_DAY

# %% [markdown]
# ## A trained net, and windows that it has not learnt from
#
# The `train` stage leaves a net and says of which recipe, seed and data it is. What is to be
# quantized is its *core*: the scaling around it becomes a few numbers in the manifest, which the
# device does in plain Python.

# %%
options.work.joinpath(recipe.name).mkdir(parents=True, exist_ok=True)
train(recipe, options)
subject = subject_of(recipe, options)
print(f"{subject.core.count_params():,} weights, windows of {subject.core.input_shape[1:]}")
print(f"{len(subject.calibration)} windows to calibrate by,", end=" ")
print(f"{len(subject.judge.windows)} later ones to judge by")

# %% [markdown]
# ## All forms, tried
#
# Every form runs in every runtime that devices have: tflite-runtime on Python 3.11,
# ai-edge-litert on newer ones. Each in a process of its own, on one thread, one window at a time,
# as on the device. Before that it is checked to hold only built-in operators, in versions that
# the older runtime knows. The whole is one call:

# %%
quantization, forms = try_forms(recipe.name, subject)
Markdown(markdown([quantization]).replace("us in", "µs in"))

# %%
tried = [each for each in quantization.tried if each.judged]
rows = np.arange(len(tried))
figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), sharey=True)
axes[0].barh(rows, [each.size_bytes / 1024 for each in tried], 0.55, color="C3")
for number, runtime in enumerate(quantization.runtimes):
    median = np.array([each.runs[number].median_us for each in tried])
    p99 = np.array([each.runs[number].p99_us for each in tried])
    at, tail = rows + 0.3 * (number - 0.5), (0 * median, p99 - median)
    axes[1].barh(at, median, 0.28, xerr=tail, color=f"C{number}", ecolor="C3", label=runtime)
colours = ["C1" if each.left_out else "C2" for each in tried]
axes[2].barh(rows, [100 * each.judged.worse for each in tried], 0.55, color=colours)
axes[2].axvline(100 * MOST_WORSE, color="C1", linestyle="--", linewidth=1)
axes[0].set(title="size, KiB")
axes[1].set(title="a window, µs: median, to p99", xscale="log", xlim=(5, None))
figure.legend(loc="outside lower center", ncols=len(quantization.runtimes))
axes[2].set(title="worse than float, %")
axes[0].set_yticks(rows, [each.title for each in tried])
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# *Worse than float* is by the pinball loss against what came, of the target that suffers most: an
# error that no one would notice in the forecast costs nothing. A form beyond the dashed line is
# not given to devices; the last column of the table says why.
#
# ## Where int8 differs
#
# An integer has 256 levels. In an output that is shared by targets of different spread, the
# narrow ones get few of them, which is why int8 is tried once more with the last layer in float
# where the plain form is not good enough. Below is the *plain* int8 form, converted here by hand,
# on the same windows.

# %%
with exported(subject.core) as exported_net, tempfile.TemporaryDirectory() as place:
    content = exported_net.convert_int8(subject.calibration)
    np.save(Path(place) / "windows.npy", subject.judge.windows)
    run, int8 = measure(runtimes()[-1], content, Path(place) / "windows.npy", Path(place))
assert int8 is not None, run.fault

exact = subject.core.predict(subject.judge.windows, verbose=0)
shape = (len(exact), len(recipe.targets), len(recipe.horizons), len(recipe.quantiles))
exact, int8 = exact.reshape(shape), int8.reshape(shape)

figure, axes = plt.subplots(1, len(recipe.targets), figsize=(9, 3.2))
for column, (target, ax) in enumerate(zip(recipe.targets, axes, strict=True)):
    for number, quantile in enumerate(recipe.quantiles):
        x, y = exact[:, column, 0, number], int8[:, column, 0, number]
        ax.plot(x, y - x, ".", markersize=2, alpha=0.5, label=f"p{100 * quantile:g}")
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set(title=f"{target.name}, {recipe.horizons[0]} ahead", xlabel="float (standard deviations)")
axes[0].set_ylabel("int8 - float")
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), markerscale=4)
plt.show()

# %% [markdown]
# The cloud is about as high as one of the 256 levels, and higher for what is rare. Beyond what it
# was calibrated by an int8 output stays at its end, which would be a slope downwards at the
# right. So it matters that the calibration has wild days among the usual ones, and that its range
# is not theirs alone.

# %%
judged = subject.judge.judge(int8.reshape(len(int8), -1))
print(
    f"{subject.judge.measure}: {subject.judge.reference:.4f} in float, {judged.value:.4f} in int8"
)
print(f"the target that suffers most: {judged.worse:+.2%}")
for error in judged.errors:
    print(
        f"{error.of:12} off by {error.mean:.2g} on average, {error.greatest:.2g} at most {error.unit or ''}"
    )

# %% [markdown]
# Errors in the price are in its own money: by the size of the price, not by that of the change
# which the model tells.
#
# ## What the device would choose
#
# It gets every form that held, times each on its own processor when a package arrives, and keeps
# the fastest that is no worse. This machine would take:

# %%
for runtime in quantization.runtimes:
    print(f"{runtime:24} {quantization.fastest(runtime)}")
print(f"\nmeasured on {quantization.machine}; in the package: {', '.join(forms)}")

# %% [markdown]
# ## What to take home
#
# - Smaller is not faster. On a PC the LSTM of integers takes several times as long as the one of
#   floats, as its fused operator is not made fast for integers there; a convolution is another
#   matter. Hence a measurement, and not a rule.
# - Judge a form by what it is for. A difference in the third digit of an output means nothing,
#   until it is the output by which an alarm is raised.
# - Calibrate by what will come: an autoencoder that was calibrated by normal windows alone cuts
#   off the anomalies.
