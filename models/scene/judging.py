"""How good a camera's model is, beside scores that need no net: by picture, and by event as an operator sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from models.anomaly.events import is_alarmed
from models.anomaly.precision import gain, ranked
from models.scene.made_up import made_up
from models.scene.scoring import Light, PixelStatistics, mean_background

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from models.anomaly.precision import Gain
    from models.scene.simulated import Timeline
    from models.scene.training import Trained

    Floats: TypeAlias = NDArray[np.float32]
    Mask: TypeAlias = NDArray[np.bool_]

NET: Final = "net"
MEAN_BACKGROUND: Final = "mean_background"
PIXELS: Final = "pixel_statistics"
LIGHT: Final = "light"
# The picture of a moment ago is as usual as any: telling that is the tamper watch's, which looks at the noise.
UNSEEN: Final = "frozen"
# What learns from what it sees needs a while, before the first incident and after each.
_FIRST: Final = 40
_AFTERMATH_MS: Final = 60_000
# An incident and what surrounds it: pictures that resemble each other.
_BLOCK_MS: Final = 240_000


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Of each method the scores [n] of pictures of which `kind` [n] says what they show; empty: nothing unusual."""

    scores: Mapping[str, Floats]
    kind: NDArray[np.str_]
    level: float
    blocks: NDArray[np.int64]
    events: tuple[Event, ...] = ()
    false_alarms: int | None = None
    hours: float = 0.0
    levels: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        """The others get the threshold that gives them the net's own share of false alarms in this very test."""
        share = float((self.scores[NET][self.is_normal] > self.level).mean())
        levels = {
            name: self.level if name == NET else float(np.quantile(scores[self.is_normal], 1 - share))
            for name, scores in self.scores.items()
        }
        object.__setattr__(self, "levels", levels)

    @property
    def is_normal(self) -> Mask:
        """Bool [n]."""
        return np.asarray(self.kind == "", bool)

    @property
    def is_incident(self) -> Mask:
        """Bool [n]: of a kind that a single picture can show."""
        return np.asarray(~self.is_normal & (self.kind != UNSEEN), bool)

    @property
    def kinds(self) -> list[str]:
        """In order of their names."""
        return sorted(set(self.kind.tolist()) - {""})

    def average_precision(self, method: str, kind: str | None = None) -> float:
        """Of all kinds together, or of one among normal pictures."""
        is_wanted = self.is_incident if kind is None else self.kind == kind
        chosen = self.is_normal | is_wanted
        return ranked(self.scores[method][chosen], is_wanted[chosen]).average_precision()

    def recall(self, method: str, kind: str) -> float:
        """The share of a kind's pictures above the method's threshold."""
        return float((self.scores[method][self.kind == kind] > self.levels[method]).mean())

    @property
    def strongest(self) -> str:
        """The best of the others."""
        return max((name for name in self.scores if name != NET), key=self.average_precision)

    def gain_over(self, method: str, seed: int) -> Gain:
        """The net's skill against it."""
        chosen = self.is_normal | self.is_incident
        ours, theirs = (ranked(self.scores[name][chosen], self.is_incident[chosen]) for name in (NET, method))
        return gain([ours], theirs, self.blocks[chosen], seed)

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        methods = {
            name: {
                "average_precision": self.average_precision(name),
                "threshold": self.levels[name],
                "kinds": {
                    kind: {"average_precision": self.average_precision(name, kind), "recall": self.recall(name, kind)}
                    for kind in self.kinds
                },
            }
            for name in self.scores
        }
        return {
            "pictures": {"normal": int(self.is_normal.sum()), "incident": int((~self.is_normal).sum())},
            "false_share": float((self.scores[NET][self.is_normal] > self.level).mean()),
            "methods": methods,
            "events": _events_document(self.events, self.false_alarms, self.hours),
        }


@dataclass(frozen=True, slots=True)
class Event:
    """An incident, and after how long the net told it; None: it did not."""

    kind: str
    start_ms: int
    delay_s: float | None


def judge_timeline(trained: Trained, timeline: Timeline) -> Judged:
    """On pictures one after another, with what is known to have happened."""
    watched = timeline.pictures
    kind, is_judged = _kinds(timeline)
    scores = _statistics(trained, watched.pictures)
    scores[NET] = trained.net.scores(watched.pictures)
    scores[MEAN_BACKGROUND] = mean_background(watched.pictures, watched.at_ms)
    threshold = trained.threshold
    alarmed = is_alarmed(scores[NET], threshold.level, threshold.clear)
    begins = alarmed & ~np.concatenate([[False], alarmed[:-1]])
    begins_ms = watched.at_ms[begins]
    normal = is_judged & (kind == "")
    step_ms = float(np.median(np.diff(watched.at_ms)))
    return Judged(
        scores={name: each[is_judged] for name, each in scores.items()},
        kind=kind[is_judged],
        level=threshold.level,
        blocks=watched.at_ms[is_judged] // _BLOCK_MS,
        events=tuple(
            Event(each.kind, each.start_ms, _delay_s(begins_ms, each.start_ms, each.end_ms))
            for each in timeline.incidents
        ),
        false_alarms=int(np.count_nonzero(begins & normal)),
        hours=float(normal.sum()) * step_ms / 3_600_000,
    )


def judge_made_up(trained: Trained, seed: int, most: int = 200) -> Judged:
    """On pictures that were held back, as they are and with incidents made up of them."""
    held = trained.held
    places = np.unique(np.linspace(0, len(held) - 1, min(most, len(held))).round().astype(np.int64))
    cases = {"": held.pictures[places], **made_up(held.pictures[places], seed)}
    pictures = np.concatenate(list(cases.values()))
    scores = _statistics(trained, pictures)
    scores[NET] = trained.net.scores(pictures)
    kind = np.repeat(list(cases), len(places))
    # Those made of one picture, and its neighbours, go together.
    blocks = np.tile(np.arange(len(places)) // 5, len(cases))
    return Judged(scores, kind, trained.threshold.level, blocks)


def _statistics(trained: Trained, pictures: NDArray[np.uint8]) -> dict[str, Floats]:
    learnt, held = trained.learnt.pictures, trained.held.pictures
    return {
        PIXELS: PixelStatistics(learnt, held).scores(pictures),
        LIGHT: Light(learnt).scores(pictures),
    }


def _kinds(timeline: Timeline) -> tuple[NDArray[np.str_], Mask]:
    """What each picture shows, and whether it is judged: not while what learns from what it sees comes to itself."""
    at_ms = timeline.pictures.at_ms
    kind = np.full(len(at_ms), "", dtype="U40")
    is_judged = np.arange(len(at_ms)) >= _FIRST
    for each in timeline.incidents:
        is_judged &= ~((at_ms >= each.end_ms) & (at_ms < each.end_ms + _AFTERMATH_MS))
    for each in timeline.incidents:
        kind[(at_ms >= each.start_ms) & (at_ms < each.end_ms)] = each.kind
    return kind, is_judged | (kind != "")


def _delay_s(begins_ms: NDArray[np.int64], start_ms: int, end_ms: int) -> float | None:
    found = begins_ms[(begins_ms >= start_ms) & (begins_ms < end_ms)]
    return float(found[0] - start_ms) / 1000 if len(found) else None


def _events_document(events: tuple[Event, ...], false_alarms: int | None, hours: float) -> dict[str, Any] | None:
    if false_alarms is None:
        return None
    seen = [each for each in events if each.kind != UNSEEN]
    delays = [each.delay_s for each in seen if each.delay_s is not None]
    told = len(delays) + false_alarms
    return {
        "recall": len(delays) / len(seen) if seen else None,
        "precision": len(delays) / told if told else None,
        "delay_s": float(np.median(delays)) if delays else None,
        "false_alarms": false_alarms,
        "false_alarms_per_hour": false_alarms / hours if hours else None,
        "kinds": {kind: _kind_document(events, kind) for kind in sorted({each.kind for each in events})},
    }


def _kind_document(events: tuple[Event, ...], kind: str) -> dict[str, Any]:
    mine = [each for each in events if each.kind == kind]
    delays = [each.delay_s for each in mine if each.delay_s is not None]
    return {"events": len(mine), "found": len(delays), "delay_s": float(np.median(delays)) if delays else None}
