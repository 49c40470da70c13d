"""For what a bundle is: a processor and a Python, which are those of a release of Debian or Raspberry Pi OS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from fleet.errors import FleetError

Arch: TypeAlias = Literal["arm64", "armhf", "amd64"]
Python: TypeAlias = Literal["3.11", "3.13"]
ARCHITECTURES: Final[tuple[Arch, ...]] = get_args(Arch)
PYTHONS: Final[tuple[Python, ...]] = get_args(Python)

# How wheels call what Debian calls otherwise.
_MACHINES: Final[dict[Arch, str]] = {"arm64": "aarch64", "armhf": "armv7l", "amd64": "x86_64"}
# The C library of Debian 12 and 13: wheels for it, or for any before it, run.
_GLIBC: Final[dict[Python, int]] = {"3.11": 36, "3.13": 41}
_OLDEST_GLIBC: Final = 17
_OLD_NAMES: Final = {"x86_64": ("manylinux2014", "manylinux2010", "manylinux1"), "other": ("manylinux2014",)}
_LOCKS: Final[dict[Python, str]] = {"3.11": "edge.lock", "3.13": "edge-3.13.lock"}

# PyPI has no wheels of these for 32-bit ARM: they are Debian's.
_FROM_DEBIAN: Final = {
    "cffi": "python3-cffi-backend",
    "numpy": "python3-numpy",
    "opencv-python-headless": "python3-opencv",
    "pyyaml": "python3-yaml",
}
# LiteRT, and what it alone wants: there it is nowhere, and the agent runs without models.
_LITERT: Final = frozenset({"ai-edge-litert", "backports-strenum", "flatbuffers", "ml-dtypes", "tqdm"})


@dataclass(frozen=True, slots=True)
class Target:
    """A processor, as Debian calls it, and a minor version of Python."""

    arch: Arch
    python: Python

    @classmethod
    def parse(cls, arch: str, python: str) -> Target:
        """A target by its names; raises FleetError."""
        for known_arch in ARCHITECTURES:
            for known_python in PYTHONS:
                if (arch, python) == (known_arch, known_python):
                    return cls(known_arch, known_python)
        raise FleetError(
            f"{arch!r} with Python {python!r}: allowed are {', '.join(ARCHITECTURES)} with {' or '.join(PYTHONS)}"
        )

    @property
    def label(self) -> str:
        """In names of files."""
        return f"{self.arch}-py{self.python.replace('.', '')}"

    @property
    def lock(self) -> str:
        """Name of the lock file."""
        return _LOCKS[self.python]

    @property
    def glibc(self) -> str:
        """The newest C library that wheels may want."""
        return f"2.{_GLIBC[self.python]}"

    def platforms(self) -> tuple[str, ...]:
        """Platform tags of wheels that run there, the newest first."""
        machine = _MACHINES[self.arch]
        newest = range(_GLIBC[self.python], _OLDEST_GLIBC - 1, -1)
        old = _OLD_NAMES.get(machine, _OLD_NAMES["other"])
        return (*(f"manylinux_2_{minor}_{machine}" for minor in newest), *(f"{name}_{machine}" for name in old))

    def from_debian(self) -> dict[str, str]:
        """Libraries that come from Debian's packages there."""
        return _FROM_DEBIAN if self.arch == "armhf" else {}

    def lacking(self) -> frozenset[str]:
        """Libraries that cannot be had there."""
        return _LITERT if (self.arch, self.python) == ("armhf", "3.13") else frozenset()
