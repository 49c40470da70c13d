"""Models of what a camera usually sees: their manifest, and the pictures that they are trained on.

Whoever runs or trains such a model does it by these rules:

- A picture is grey, shrunk to 96 x 96 by the mean of the pixels that each one stands for; what lies under one of the
  camera's masks is `BLANK` throughout.
- A model takes grey / 255 as float32 [1, 96, 96, 1], and gives another picture so. One of runtime `tensorflow` takes
  and gives any number of them.
- A picture's error is the mean square of the difference between the two, in grey levels. It need be no plain
  reconstruction: a model may draw what it gives towards what it is given, the less so the less a pixel usually changes.
- The score is |log((error + FLOOR) / (usual + FLOOR))|. It has two sides because darkness and defocus are *better*
  explained than the usual scene.
- The model knows the hours that it was trained in, and no others: outside of them it says nothing.

The pictures to train on come as frames of a camera's clips (`contract.clips`) of kind `SAMPLE`. The last one's kind is
`REQUEST`: the camera has as many as it was to gather, and asks for a model. `session_of` says which belong together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from contract.card import ModelCard, kind_of, parse_document
from contract.config import Config, ConfigError, parse_config
from contract.manifest import Manifest, parse_manifest

if TYPE_CHECKING:
    from typing import Self

SIDE: Final = 96
BLANK: Final = 128
# A quarter of a grey level squared: below it lies rounding, not a scene.
FLOOR: Final = 0.25

SAMPLE: Final = "scene-sample"
REQUEST: Final = "scene-request"

DAY_S: Final = 86_400
_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
_SESSION: Final = re.compile(r"scene-([0-9]{1,15})-[0-9]{1,6}")


def span_of(hours: str) -> tuple[int, int]:
    """When hours such as 22:00-05:00 (UTC) begin, and how long they last: seconds; raises ValueError."""
    found = _HOURS.fullmatch(hours)
    if found is None:
        raise ValueError(f"{hours!r}: allowed is HH:MM-HH:MM (UTC), such as 22:00-05:00, or 00:00-24:00 for all day")
    begin, end = hours.split("-")
    span_s = _seconds(end) - _seconds(begin)
    if span_s == 0:
        raise ValueError(f"{hours!r} is no time at all")
    return _seconds(begin), span_s if span_s > 0 else span_s + DAY_S


def _seconds(clock: str) -> int:
    hour, _, minute = clock.partition(":")
    return 3600 * int(hour) + 60 * int(minute)


def _checked(hours: str) -> str:
    span_of(hours)
    return hours


Hours: TypeAlias = Annotated[str, AfterValidator(_checked)]


class SceneOutput(Config):
    """What the error is held against."""

    kind: Literal["scene"] = Field(description="kind of model")
    usual: FiniteFloat = Field(ge=0, description="error of a usual picture: the median of those it was not trained on")
    threshold: FiniteFloat = Field(gt=0, description="score above which the scene is an anomaly")
    clear: FiniteFloat | None = Field(
        default=None, gt=0, description="score below which it is over; none: below the threshold"
    )

    @model_validator(mode="after")
    def _clears_below(self) -> Self:
        if self.clear is not None and self.clear > self.threshold:
            raise ValueError(f"clear is {self.clear:g}: allowed is at most the threshold, {self.threshold:g}")
        return self


class SceneManifest(ModelCard):
    """A model of one camera's scene, of one version."""

    camera: Annotated[str, Field(pattern=r"^[^/\s]+/[^/\s]+/[^/\s]+$", max_length=200)] = Field(
        description="GROUP/NODE/DEVICE that it was trained for: no other camera sees the same"
    )
    quiet_hours: Hours = Field(description="hours of the day (UTC) that it was trained in and speaks of")
    side: Literal[96] = Field(description="pixels, width and height")
    output: SceneOutput = Field(description="what it tells")


def parse_scene(text: bytes, origin: str) -> SceneManifest:
    """The manifest in a JSON file's bytes, which errors call `origin`; raises ConfigError, one line per fault."""
    document = parse_document(text, origin)
    if (kind := kind_of(document)) in {"forecast", "anomaly"}:
        raise ConfigError(f"{origin}: output.kind: found {kind!r}: a model of series, allowed here: scene")
    return parse_config(document, SceneManifest, origin)


def parse_any(text: bytes, origin: str) -> Manifest | SceneManifest:
    """The manifest of a model of whatever kind; raises ConfigError."""
    is_scene = kind_of(parse_document(text, origin)) == "scene"
    return parse_scene(text, origin) if is_scene else parse_manifest(text, origin)


def event_of(session_ms: int, part: int) -> str:
    """The id of a clip of samples: `session_ms` is when the camera began to gather (UTC ms)."""
    return f"scene-{session_ms}-{part}"


def session_of(event_id: str) -> int | None:
    """When the camera began to gather the samples of this clip (UTC ms); None where it is no such clip."""
    found = _SESSION.fullmatch(event_id)
    return int(found[1]) if found else None
