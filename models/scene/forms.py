"""A camera's net for devices: in every form and runtime, judged on pictures with incidents made up of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from models.anomaly.precision import ranked
from models.quantization.judging import detection
from models.quantization.trying import try_forms
from models.scene.made_up import made_up
from models.scene.net import errors_of, given
from models.scene.scoring import score_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from contract.card import Form
    from models.quantization.results import Judged, Quantization
    from models.quantization.trying import OnForm
    from models.scene.samples import Pictures
    from models.scene.training import Trained

    Floats: TypeAlias = NDArray[np.float32]
    Mask: TypeAlias = NDArray[np.bool_]

_JUDGED: Final = 60
_QUICKLY_JUDGED: Final = 15
_CALIBRATION: Final = 40


@dataclass(frozen=True, slots=True, eq=False)
class _Judge:
    """By average precision, and by F1 at the threshold; `worse` is the worse of them."""

    pictures: Pictures
    scores: Floats
    is_incident: Mask
    usual: float
    threshold: float
    measure: str = "average_precision"

    @property
    def windows(self) -> Floats:
        """Pictures as a net takes them, [n, 96, 96, 1]."""
        return given(self.pictures)

    @property
    def reference(self) -> float:
        """The measure of TensorFlow's float."""
        return ranked(self.scores, self.is_incident).average_precision()

    def judge(self, outputs: Floats) -> Judged:
        """Outputs [n, 96 * 96]."""
        scores = score_of(errors_of(outputs, self.pictures), self.usual)
        return detection(scores, self.scores, self.is_incident, self.threshold)


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """What `try_forms` asks of a subject."""

    core: Any
    learnt: Floats
    calibration: Floats
    judge: _Judge


def forms_of(
    name: str, trained: Trained, seed: int, *, is_quick: bool = False, on_form: OnForm = lambda _: None
) -> tuple[Quantization, dict[Form, bytes]]:
    """What came of each form, and the contents of those for devices; raises ConversionError where there is none."""
    normal = _some(trained.held.pictures, _QUICKLY_JUDGED if is_quick else _JUDGED)
    cases = [normal, *made_up(normal, seed).values()]
    pictures = np.concatenate(cases)
    is_incident = np.arange(len(pictures)) >= len(normal)
    net = trained.net
    learnt = _some(trained.learnt.pictures, _CALIBRATION)
    # Without pictures of what is unusual int8 would cut it off.
    calibration = np.concatenate([learnt, *made_up(_some(learnt, _CALIBRATION // 4), seed + 1).values()])
    subject = _Subject(
        net.model,
        given(learnt),
        given(calibration),
        _Judge(pictures, net.scores(pictures), is_incident, net.usual, trained.threshold.level),
    )
    return try_forms(name, subject, on_form)


def _some(pictures: Pictures, count: int) -> Pictures:
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(np.int64))
    return pictures[chosen]
