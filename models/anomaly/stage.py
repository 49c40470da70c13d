"""The `train` stage's half for anomalies: a net, and the threshold that its own scores of normal windows give."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from models.anomaly.parts import past_of
from models.anomaly.threshold import least_rate, threshold_of

if TYPE_CHECKING:
    from models.options import Options
    from models.recipe import AnomalyRecipe


def train_anomaly(recipe: AnomalyRecipe, options: Options) -> None:
    """Writes `model.keras`, `trained.json` with the threshold, and `history.json`; goes on where it was stopped.

    It learns from the same windows as those that are judged: what it is judged on it has not seen either.
    """
    from models.anomaly.training import train_autoencoder  # noqa: PLC0415 - TensorFlow: who evaluates needs none here
    from models.training.checkpoint import Checkpoint  # noqa: PLC0415 - as above
    from models.training.document import CHECKPOINTS, MODEL_FILE, Trained, write_documents  # noqa: PLC0415 - as above
    from models.training.progress import epochs_shown  # noqa: PLC0415 - as above

    began_s = time.monotonic()
    place = options.work / recipe.name
    place.mkdir(parents=True, exist_ok=True)
    past = past_of(recipe, options)
    independent = len(past.calibration) / recipe.view.window.length
    rate = stated_rate(recipe, options, independent)
    with epochs_shown(recipe, options.console) as on_epoch:
        net = train_autoencoder(
            recipe, past.train, past.valid, seed=options.seed, place=place / CHECKPOINTS, on_epoch=on_epoch
        )
    threshold = threshold_of(net.scores(past.calibration.x), independent, rate)
    net.save(place / MODEL_FILE)
    trained = Trained(len(past.train), len(past.valid), net.history, time.monotonic() - began_s)
    told = asdict(threshold)
    write_documents(
        place, recipe, options, past.dataset, trained, threshold=told.pop("level"), clear=told.pop("clear"), stated=told
    )
    Checkpoint.forget(place / CHECKPOINTS)
    options.console.print(
        f"{recipe.name}: {trained.epochs} epochs on {len(past.train)} normal windows in {trained.seconds:.0f} s; "
        f"threshold {threshold.level:.3g} for {threshold.rate:.2g} of normal windows "
        f"(95 % between {threshold.low:.2g} and {threshold.high:.2g})"
    )


def stated_rate(recipe: AnomalyRecipe, options: Options, independent: float) -> float:
    """The recipe's; quickly, with less data, what that can show."""
    return max(recipe.false_alarms, least_rate(independent)) if options.quick else recipe.false_alarms
