"""How a camera's net is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SceneFit:
    """How long and how fast is learnt; `false_alarms`: which share of usual pictures may be above the threshold.

    What the samples cannot show becomes what they can: with 200 that were held back one in 200.
    """

    epochs: int = 16
    learning_rate: float = 3e-3
    false_alarms: float = 0.002
