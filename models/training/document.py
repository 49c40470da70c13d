"""What a training leaves beside its model: `trained.json` and `history.json`."""

from __future__ import annotations

import datetime as dt
import json
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from models.recipe import to_document
from models.training.tensorflow import keras, tf

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from models.data.dataset import Dataset
    from models.options import Options
    from models.recipe import Recipe

MODEL_FILE: Final = "model.keras"
TRAINED_FILE: Final = "trained.json"
HISTORY_FILE: Final = "history.json"
CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """How a training went; `history` float64 [1 + epochs, 2], `seconds` since it began or went on."""

    train_windows: int
    valid_windows: int
    history: NDArray[np.float64]
    seconds: float

    @property
    def epochs(self) -> int:
        """How many there were."""
        return len(self.history) - 1

    @property
    def best_epoch(self) -> int:
        """After which the net was best, in validation; 0: before the first."""
        return int(self.history[:, 1].argmin())


def write_documents(
    place: Path, recipe: Recipe, options: Options, dataset: Dataset, trained: Trained, **more: object
) -> None:
    """Writes both files; `more` goes into `trained.json` too, such as an anomaly model's threshold."""
    document = {
        "trained_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "recipe": to_document(recipe),
        "seed": options.seed,
        "quick": options.quick,
        "data": {
            "name": dataset.name,
            "title": dataset.title,
            "origin": dataset.origin,
            "licence": dataset.licence,
            "sha256": dataset.sha256,
            "from_at": dataset.from_at.isoformat(),
            "to_at": dataset.to_at.isoformat(),
        },
        "windows": {"train": trained.train_windows, "valid": trained.valid_windows},
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "valid_loss": float(trained.history[:, 1].min()),
        "untrained_loss": float(trained.history[0, 1]),
        "seconds": round(trained.seconds, 1),
        "devices": [each.device_type for each in tf.config.list_logical_devices()],
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "tf_keras": keras.__version__,
            "numpy": np.__version__,
        },
        **more,
    }
    train, valid = trained.history.T.tolist()
    _write(place / HISTORY_FILE, {"train": train, "valid": valid})
    _write(place / TRAINED_FILE, document)


def _write(path: Path, document: dict[str, Any]) -> None:
    unfinished = path.with_name(f"next.{path.name}")
    unfinished.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
