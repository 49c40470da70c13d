"""What can be in the way of an identity, told apart by whether it may work later.

RefusedError   (an IdentityError) the fleet said no: asking again says nothing new
NotYetError    (an IdentityError) no network, no answer, a wrong clock, too many at once, a full disk: it may yet work
"""

from __future__ import annotations

import errno
from typing import Final

from edge.errors import IdentityError

# How somebody has set it up; whatever else a disk says may be otherwise when it has room, or was seen to.
_SET_UP_WRONG: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
    | {errno.ENAMETOOLONG}
)


class RefusedError(IdentityError):
    """The fleet does not give a certificate; the message has its reason."""


class NotYetError(IdentityError):
    """It cannot be done now, or the fleet asks us to wait `pause_s`."""

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def of_disk(what: str, fault: OSError) -> IdentityError:
    """What the disk does not do, as an error of ours."""
    reason = f"{what}: {fault.strerror or fault}"
    return IdentityError(reason) if fault.errno in _SET_UP_WRONG else NotYetError(reason)
