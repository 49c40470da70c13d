"""Updates in the configuration."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time

from pydantic import Field

from contract.config import Config

_MIB = 1 << 20


class UpdateConfig(Config):
    """What the node takes from its fleet: agents, configurations, models, each signed."""

    key_files: tuple[Path, ...] = Field(
        default=(),
        max_length=16,
        description="Ed25519 public keys (PEM files) of who may sign; none: the one that came with the node's identity",
    )
    confirm_s: float = Field(
        default=300.0, ge=1, le=86_400, description="seconds in which what is new has to show that it works"
    )
    max_starts: int = Field(
        default=3, ge=1, le=100, description="starts in which it has to, before what was before is put back"
    )
    max_bytes: int = Field(
        default=512 * _MIB, ge=_MIB, description="bytes of disk that one update may take, as it comes and unpacked"
    )
    bytes_per_s: float = Field(
        default=131_072, gt=0, description="bytes a second at which an update is fetched, beside the readings"
    )
    retry_s: float = Field(
        default=60.0,
        ge=0.05,
        le=86_400,
        description="seconds until what cannot be fetched now is tried again, doubling up to an hour",
    )
    ca_file: Path | None = Field(
        default=None, description="certificates (PEM) that an update's https URL is checked by; none: the usual ones"
    )
