"""Device profiles: register maps of real devices, ready to be named in a configuration.

Each is a YAML file in `profiles/`, whose name is the profile's. It names the document that its map is taken from.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, model_validator

from contract.config import Config, ConfigError, read_config
from edge.sources.modbus.blocks import Block, Forbidden, plan_blocks
from edge.sources.modbus.points import MAX_BITS, MAX_REGISTERS, PointConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

Kind = Literal[
    "energy meter",
    "drive",
    "solar inverter",
    "battery system",
    "PLC",
    "remote I/O",
    "weather transmitter",
    "heat pump",
    "relay",
    "climate transmitter",
]

# What a unit of a configuration says of itself by the same names.
_SAID_OF_UNITS: Final = ("unit_id", "max_registers", "max_bits", "max_gap", "pause_s", "forbidden")


class MapSource(Config):
    """The document in which a map is published."""

    title: str = Field(min_length=1, description="of the document")
    edition: str = Field(min_length=1, description="version, number or date of the document")
    part: str = Field(min_length=1, description="chapter, table or page that holds the map")


class SerialLine(Config):
    """How the device's serial line is set when it leaves the factory."""

    baudrate: int = Field(ge=300, le=1_000_000, description="bits per second")
    parity: Literal["none", "even", "odd"] = Field(description="of the serial line")
    stopbits: Literal[1, 2] = Field(default=1, description="of the serial line")


class Profile(Config):
    """A device: who makes it, where its map is published, how it wants to be asked, and its points."""

    manufacturer: str = Field(min_length=1, description="who makes it")
    models: tuple[str, ...] = Field(min_length=1, description="the models that have this map")
    kind: Kind = Field(description="what it is")
    source: MapSource = Field(description="the document in which its map is published")
    notes: str | None = Field(default=None, description="what must be known, or set at the device, to use it")
    unchecked: str | None = Field(
        default=None,
        description="registers not held against the maker's document or a program that uses them",
    )
    unit_id: int = Field(default=1, ge=0, le=255, description="as the device leaves the factory")
    serial: SerialLine | None = Field(default=None, description="its serial line; none: it has only a network")
    tcp: bool = Field(default=False, description="whether it speaks Modbus TCP itself")
    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="that one request may ask")
    max_bits: int = Field(default=MAX_BITS, ge=1, le=MAX_BITS, description="that one request may ask")
    max_gap: int = Field(default=0, ge=0, le=100, description="unused addresses that it lets be read along")
    pause_s: float = Field(default=0.0, ge=0, le=10, description="seconds it needs from an answer to the next request")
    forbidden: tuple[Forbidden, ...] = Field(default=(), description="addresses that must not be read")
    points: tuple[PointConfig, ...] = Field(min_length=1, description="its points")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, document: Any) -> Any:  # noqa: ANN401 - whatever YAML held
        """`defaults` are keys that each point has unless it says otherwise."""
        if not isinstance(document, dict) or "defaults" not in document:
            return document
        defaults, points = document["defaults"], document.get("points")
        if not isinstance(defaults, dict) or not isinstance(points, list):
            raise ValueError("defaults is a mapping, and points a list")  # noqa: TRY004 - pydantic wants a ValueError
        rest = {key: value for key, value in document.items() if key != "defaults"}
        return rest | {"points": [defaults | point if isinstance(point, dict) else point for point in points]}

    @model_validator(mode="after")
    def _can_be_read(self) -> Profile:
        names = sorted(point.name for point in self.points)
        twice = [a for a, b in pairwise(names) if a == b]
        if twice:
            raise ValueError(f"point name {twice[0]} stands here twice")
        self.blocks()
        return self

    def blocks(self, unit_id: int | None = None) -> list[Block]:
        """The requests that read all of it; raises ValueError where its own limits forbid that."""
        return plan_blocks(
            self.unit_id if unit_id is None else unit_id,
            self.points,
            max_gap=self.max_gap,
            max_registers=self.max_registers,
            max_bits=self.max_bits,
            forbidden=self.forbidden,
        )


def profile_names() -> list[str]:
    """The profiles that there are."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


@cache
def load_profile(name: str) -> Profile:
    """A profile of the library; raises ConfigError for one that it has not."""
    if name not in profile_names():
        raise ConfigError(f"profile: found {name!r}, allowed: {', '.join(profile_names())}")
    with resources.as_file(_folder() / f"{name}.yaml") as path:
        return read_config(path, Profile)


def profile_points(name: str, only: Sequence[str] = (), prefix: str = "") -> tuple[PointConfig, ...]:
    """The points of a profile, with a prefix before each name; with `only`, those that it names.

    An entry of `only` is a point's name, or the beginning of names and a `*`. Raises ConfigError where it names none.
    """
    points = load_profile(name).points
    for wanted in only:
        if not any(_is_meant(point, wanted) for point in points):
            known = ", ".join(point.name for point in points)
            raise ConfigError(f"only: found {wanted!r}, profile {name} has: {known}")
    chosen = [point for point in points if not only or any(_is_meant(point, wanted) for wanted in only)]
    return tuple(point.model_copy(update={"name": prefix + point.name}) for point in chosen)


def with_profile(unit: object) -> object:
    """A unit's part of the configuration with what its `profile` says of it, as far as it does not say so itself.

    The points are those of the profile that `only` names (all, unless it says which), each with `prefix` before its
    name, and the unit's own. Raises ConfigError for a profile or point that there is not.
    """
    if not isinstance(unit, dict) or not isinstance(unit.get("profile"), str):
        return unit
    only, prefix, own = unit.get("only", ()), unit.get("prefix", ""), unit.get("points", ())
    if not isinstance(only, list | tuple) or not isinstance(prefix, str) or not isinstance(own, list | tuple):
        return unit  # what they may be is said of them one by one
    profile, points = load_profile(unit["profile"]), profile_points(unit["profile"], [*map(str, only)], prefix)
    said = {key: getattr(profile, key) for key in _SAID_OF_UNITS}
    return said | {key: value for key, value in unit.items() if value is not None} | {"points": [*points, *own]}


def _is_meant(point: PointConfig, wanted: str) -> bool:
    return point.name.startswith(wanted[:-1]) if wanted.endswith("*") else point.name == wanted


def _folder() -> Traversable:
    return resources.files("edge.sources.modbus") / "profiles"
