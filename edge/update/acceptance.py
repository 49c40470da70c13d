"""Which desired states a node takes: signed, for it, not expired, and never one that is not newer than the last.

No I/O. What is refused here leaves no trace but a line in the log: whoever sent it may be anybody.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract.config import ConfigError
from contract.update import SignatureError, opened_by
from edge.errors import NotNowError, UpdateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from contract.update import Desired
    from edge.update.ledger import Standing

_MS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class Accepted:
    """A desired state that may be taken; `digest` tells it from all others, `signer` is the key that has signed it."""

    desired: Desired
    digest: str
    signer: Ed25519PublicKey


def accept(
    payload: bytes, keys: Sequence[Ed25519PublicKey], node: tuple[str, str], standings: Mapping[str, Standing]
) -> Accepted | None:
    """What a payload asks of a node (its group and id); None where it is known and done with. Raises UpdateError."""
    try:
        desired, signer = opened_by(payload, keys, "desired state")
    except (SignatureError, ConfigError) as exc:
        raise UpdateError("; ".join(str(exc).splitlines())) from exc
    if not desired.target.is_for(*node):
        target = desired.target
        raise UpdateError(f"{desired.title}: is for {target.group}/{target.node}, and this is {'/'.join(node)}")
    accepted = Accepted(desired, hashlib.sha256(payload).hexdigest(), signer)
    if (standing := standings.get(desired.key)) is None:
        return accepted
    if standing.digest == accepted.digest:
        return None if standing.state.is_final else accepted
    if desired.counter <= standing.counter:
        raise UpdateError(
            f"{desired.title}: its counter {desired.counter} is not above {standing.counter}, that of "
            f"{standing.wanted}, which was taken last: an old state comes again, or a downgrade without a new signature"
        )
    return accepted


def check_expiry(desired: Desired, known_wall_ms: int | None) -> None:
    """Raises UpdateError for one that has expired, NotNowError where the time is not known (None)."""
    if known_wall_ms is None:
        raise NotNowError("the clock is not synchronised: whether it has expired is not known")
    if known_wall_ms >= desired.expires_at.timestamp() * _MS_PER_S:
        raise UpdateError(f"has expired at {desired.expires_at:%Y-%m-%d %H:%M:%S} UTC")
