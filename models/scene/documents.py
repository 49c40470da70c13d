"""What making a camera's model leaves beside its package: `trained.json`, `evaluation.json`, `report.html`."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from contract.card import Skill, Training
from contract.manifest import ANOMALY
from models.scene.judging import LIGHT, MEAN_BACKGROUND, NET, PIXELS, UNSEEN

if TYPE_CHECKING:
    import datetime as dt

    from models.options import Options
    from models.scene.fit import SceneFit
    from models.scene.judging import Judged
    from models.scene.samples import Samples
    from models.scene.training import Trained

MEASURE: Final = "average_precision"
SAID: Final = {
    NET: "the net",
    MEAN_BACKGROUND: "the slow mean, which the device has without a model",
    PIXELS: "each pixel's own mean and deviation",
    LIGHT: "brightness and contrast alone",
}


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A camera's model and how it did; `is_made_up`: the incidents that it was judged by are."""

    name: str
    samples: Samples
    trained: Trained
    trained_at: dt.datetime
    judged: Judged
    skill: Skill
    is_made_up: bool

    @property
    def title(self) -> str:
        """For people."""
        return f"Scene of {self.samples.camera}"

    @property
    def training(self) -> Training:
        """As a manifest has it."""
        return Training(
            from_at=self.samples.from_at,
            to_at=self.samples.to_at,
            windows=len(self.trained.learnt),
            source=self.samples.origin[:200],
            sha256=self.samples.sha256,
        )

    @property
    def headline(self) -> dict[str, float]:
        """The few numbers that a manifest shows."""
        events = self.judged.to_document()["events"] or {}
        found = {
            MEASURE: self.judged.average_precision(NET),
            f"{self.judged.strongest}.{MEASURE}": self.judged.average_precision(self.judged.strongest),
            "stated_false_share": self.trained.threshold.rate,
            "usual_error": self.trained.net.usual,
            **{f"event.{name}": events.get(name) for name in ("precision", "recall", "delay_s")},
            "event.false_alarms_per_hour": events.get("false_alarms_per_hour"),
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    @property
    def verdicts(self) -> tuple[tuple[str, bool], ...]:
        """What to think of it, in plain words, each with whether it is good news."""
        ours, against = self.judged.average_precision(NET), self.judged.strongest
        theirs, skill = self.judged.average_precision(against), self.skill
        told = f"average precision {ours:.3f} against {theirs:.3f} of {SAID[against]}"
        interval = f"skill {skill.skill:.2f}, 95 % between {skill.low:.2f} and {skill.high:.2f}"
        better = "It is shown to be better" if skill.is_shown else "It is not shown to be better"
        found = [(f"{better} than what needs no training: {told}; {interval}.", skill.is_shown)]
        if self.is_made_up:
            found.append(("The incidents are made up of the camera's own pictures: real ones are subtler.", False))
        if UNSEEN in self.judged.kinds:
            found.append(
                ("A frozen picture is a usual one: telling it is the tamper watch's, not this model's.", False)
            )
        return tuple(found)


def skill_of(judged: Judged, seed: int, *, is_made_up: bool) -> Skill:
    """Against the strongest of the others."""
    won = judged.gain_over(judged.strongest, seed)
    measure = f"{MEASURE}_made_up" if is_made_up else MEASURE
    return Skill(of=ANOMALY, measure=measure, against=judged.strongest, skill=won.skill, low=won.low, high=won.high)


def trained_document(made: Made, fit: SceneFit, options: Options, seconds: float) -> dict[str, Any]:
    """`trained.json`."""
    trained = made.trained
    return {
        "trained_at": made.trained_at.isoformat(timespec="seconds"),
        "recipe": {"name": made.name, "title": made.title, "kind": "scene", "fit": asdict(fit)},
        "seed": options.seed,
        "quick": options.quick,
        "data": _data(made),
        "windows": {"train": len(trained.learnt), "valid": len(trained.held)},
        "epochs": len(trained.history),
        "history": trained.history.tolist(),
        "threshold": trained.threshold.level,
        "clear": trained.threshold.clear,
        "usual": trained.net.usual,
        "stated": asdict(trained.threshold),
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }


def evaluation_document(made: Made, options: Options) -> dict[str, Any]:
    """`evaluation.json`."""
    return {
        "kind": "scene",
        "recipe": made.name,
        "title": made.title,
        "quick": options.quick,
        "data": _data(made),
        "made_up": made.is_made_up,
        "verdict": [words for words, _ in made.verdicts],
        "skill": [made.skill.model_dump()],
        "headline": made.headline,
        **made.judged.to_document(),
    }


def _data(made: Made) -> dict[str, str]:
    samples = made.samples
    return {
        "title": f"Pictures of {samples.camera}",
        "origin": samples.origin,
        "licence": "your own",
        "sha256": samples.sha256,
        "from_at": samples.from_at.isoformat(),
        "to_at": samples.to_at.isoformat(),
        "quiet_hours": samples.quiet_hours,
    }
