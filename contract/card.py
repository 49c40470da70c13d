"""What every model's manifest says, whatever it looks at: its name, files and training, and how good it is."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias

from pydantic import AwareDatetime, Field, FiniteFloat, model_validator

from contract.config import Config, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MANIFEST_FILE: Final = "manifest.json"
# The Ed25519 signature of the manifest's bytes, which name their files' digests: 64 bytes in base64.
SIGNATURE_FILE: Final = "manifest.sig"
MAX_MANIFEST_BYTES: Final = 64 * 1024
MAX_MODEL_BYTES: Final = 32 << 20

Form: TypeAlias = Literal["float32", "float16", "dynamic", "int8"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelFile(Config):
    """One form of the model: all forms have the same inputs and outputs, and serve equally well."""

    form: Form = Field(description="how its weights and sums are held")
    file: Name = Field(description="name of the file beside the manifest")
    sha256: Sha256 = Field(description="SHA-256 of the file, in hexadecimal")
    size_bytes: int = Field(ge=1, le=MAX_MODEL_BYTES, description="bytes of the file")
    runtime: Literal["tflite", "tensorflow"] = Field(
        default="tflite", description="what runs it: TFLite's built-in operators alone, or TensorFlow (Keras 2 format)"
    )


class Skill(Config):
    """How much better a model is than what needs no training, on data that it was not trained on."""

    of: Name = Field(description="which target, or `anomaly`")
    measure: Name = Field(description="what was compared, such as pinball or average_precision")
    against: Name = Field(description="what it was compared with")
    skill: FiniteFloat = Field(le=1, description="1 - error / error of the other; above 0: better")
    low: FiniteFloat = Field(description="lower end of its 95 % interval")
    high: FiniteFloat = Field(description="upper end of its 95 % interval")

    @property
    def is_shown(self) -> bool:
        """Whether the whole interval is better."""
        return self.low > 0


class Training(Config):
    """What it was trained on."""

    from_at: AwareDatetime = Field(description="time of the first sample")
    to_at: AwareDatetime = Field(description="time of the last sample")
    windows: int = Field(ge=1, description="number of windows")
    source: str = Field(max_length=200, description="where the data is from")
    sha256: Sha256 = Field(description="SHA-256 of the data")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.to_at < self.from_at:
            raise ValueError(f"to_at {self.to_at} is before from_at {self.from_at}")
        return self


class ModelCard(Config):
    """What every model's manifest says."""

    format: Literal[1] = Field(description="how this manifest is written")
    name: Name = Field(description="the model's name")
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$")] = Field(description="its version")
    description: str = Field(default="", max_length=1000, description="what it is for")
    files: tuple[ModelFile, ...] = Field(min_length=1, max_length=8, description="its forms")
    training: Training | None = Field(default=None, description="what it was trained on; none: it was not")
    metrics: dict[Name, FiniteFloat] = Field(
        default_factory=dict, max_length=64, description="how it did when it was evaluated"
    )
    skill: tuple[Skill, ...] = Field(default=(), max_length=64, description="against what; none: not evaluated")

    @model_validator(mode="after")
    def _files_areunique(self) -> Self:
        unique("files", (each.file for each in self.files))
        unique("forms", (f"{each.form} for {each.runtime}" for each in self.files))
        return self

    @property
    def has_skill(self) -> bool:
        """Whether it was shown to be better than what needs no training, for one target at least."""
        return any(each.is_shown for each in self.skill)

    @property
    def tflite_files(self) -> tuple[ModelFile, ...]:
        """The forms that a device may run."""
        return tuple(each for each in self.files if each.runtime == "tflite")


def parse_document(text: bytes, origin: str) -> object:
    """What is in a manifest's bytes, of whatever kind it is; raises ConfigError."""
    if len(text) > MAX_MANIFEST_BYTES:
        raise ConfigError(f"{origin}: is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{origin}: is not JSON: {exc}") from exc


def kind_of(document: object) -> str | None:
    """Of which kind a manifest says that its model is; None where it does not say."""
    match document:
        case {"output": {"kind": str(kind)}}:
            return kind
    return None


def _unique_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    unique("keys", (key for key, _ in pairs))
    return dict(pairs)


def unique(what: str, names: Iterable[str]) -> None:
    """Raises ValueError where a name is there more than once."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{what} must be unique, given more than once: {', '.join(twice)}")
