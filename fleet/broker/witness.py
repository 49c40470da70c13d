"""Seeing whether the broker goes by the files that are written for it: it may lose a SIGHUP, or read them later.

The ACL lets one user, the witness, write to one topic, named after the content of all files. Who may write there sees
that the broker has read these files, and no older ones.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import TYPE_CHECKING, Final

from fleet.authority import issue
from fleet.broker.connecting import connected
from fleet.broker.files import ACL_FILE, Rights
from fleet.errors import FleetError
from fleet.files import read_file

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from pathlib import Path

    from fleet.home import Home

WITNESS: Final = "headwater-witness"
_MOMENT: Final = dt.timedelta(minutes=2)
_TOPIC: Final = "headwater/files/"
# MQTT 5: a clean start, keep-alive 5 s, no properties, a client id that the broker replaces by the user.
_CONNECT: Final = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x05\x00\x00\x01x"
_DISCONNECT: Final = b"\xe0\x00"
_CONNACK, _PUBACK = 0x20, 0x40
_NOT_AUTHORIZED: Final = 135
_LONGEST: Final = 127  # one byte of remaining length; CONNACK and PUBACK of Mosquitto are shorter


def rights_of_witness(contents: Iterable[bytes]) -> Rights:
    """What names these contents."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return Rights(WITNESS, (("write", f"{_TOPIC}{digest.hexdigest()[:32]}"),))


def has_read(home: Home, at: str | None = None) -> bool:
    """Whether the broker, `at` an address or where it is known, goes by the files as they are.

    Raises FleetError where it cannot be asked.
    """
    with connected(home, issue(home.issuing(), WITNESS, _MOMENT), at) as connection:
        return _may_write(connection, _topic(home.path / "broker" / ACL_FILE))


def _topic(acl: Path) -> bytes:
    """Where the witness may write as soon as the broker has read these files; raises FleetError."""
    found = re.search(rf" ({_TOPIC}[0-9a-f]+)$", read_file(acl).decode(errors="replace"), re.MULTILINE)
    if found is None:
        raise FleetError(f"{acl}: is not as the fleet writes it: `fleet broker` writes it anew")
    return found[1].encode()


def _may_write(connection: ssl.SSLSocket, topic: bytes) -> bool:
    connection.sendall(_CONNECT)
    kind, connack = _packet(connection)
    # Flags, then the reason; for a broker of MQTT 3 alone that is all.
    if kind != _CONNACK or connack[1:2] != b"\0":
        raise FleetError("the broker does not take the fleet's own witness: see its log")
    # QoS 1, packet identifier 1, no properties, no payload.
    body = len(topic).to_bytes(2) + topic + b"\x00\x01\x00"
    connection.sendall(bytes([0x32, len(body)]) + body)
    kind, puback = _packet(connection)
    connection.sendall(_DISCONNECT)
    reason = puback[2] if len(puback) > 2 else 0  # noqa: PLR2004 - the packet identifier is two bytes
    return kind == _PUBACK and reason != _NOT_AUTHORIZED


def _packet(connection: ssl.SSLSocket) -> tuple[int, bytes]:
    kind, length = _exactly(connection, 2)
    if length > _LONGEST:
        raise FleetError("the broker answers with what is not expected: is it one?")
    return kind, _exactly(connection, length)


def _exactly(connection: ssl.SSLSocket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        if not (more := connection.recv(length - len(found))):
            raise ConnectionResetError
        found += more
    return found
