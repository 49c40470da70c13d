"""Who belongs to the fleet: nodes, their tokens (hashed), every certificate, and the counter of what is signed."""

from __future__ import annotations

import datetime as dt
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fleet.authority import Revoked
from fleet.errors import FleetError
from fleet.registry_file import make, transaction

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Node:
    """A device; its name is unique over all groups. All times are UTC."""

    name: str
    group: str
    added_at: dt.datetime
    revoked_at: dt.datetime | None
    certificate_ends_at: dt.datetime | None
    # When it was last seen that two renew its certificate: there are two who have the key.
    shown_again_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that was issued; `name` is its common name, `chain` itself and those up to the root as PEM."""

    serial: int
    name: str
    key_sha256: str
    chain: str
    ends_at: dt.datetime
    revoked_at: dt.datetime | None = None


class TokenError(FleetError):
    """A token that gets no certificate. `told` is what a stranger may hear, the message is for the log."""

    def __init__(self, message: str, told: str) -> None:
        super().__init__(message)
        self.told = told


class Registry:
    """An SQLite file; each method is one transaction, and several processes may use it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> None:
        """An empty one."""
        make(self._path)

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, by name."""
        with self._transaction() as database:
            return tuple(_node(row) for row in database.execute(f"{_NODES} GROUP BY node.name ORDER BY node.name"))

    def node(self, name: str) -> Node:
        """A node; raises FleetError where there is none."""
        with self._transaction() as database:
            if (row := database.execute(f"{_NODES} WHERE node.name = ? GROUP BY node.name", [name]).fetchone()) is None:
                raise FleetError(f"there is no node {name}: `fleet enrol {name}` makes it known")
            return _node(row)

    def add_node(self, name: str, group: str) -> None:
        """Makes a node known, again after it was revoked; raises FleetError where it is somebody else's name."""
        with self._transaction() as database:
            whose = "SELECT of_group FROM node WHERE name = ? AND revoked_at IS NULL"
            found = database.execute(whose, [name]).fetchone()
            if found is not None and found[0] != group:
                raise FleetError(f"{name} is a node of group {found[0]}: names are unique over all groups")
            if database.execute("SELECT 1 FROM host WHERE name = ?", [name]).fetchone():
                raise FleetError(f"{name} is a host application: a node cannot be called so")
            database.execute(
                "INSERT INTO node (name, of_group, added_at) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET revoked_at = NULL, of_group = excluded.of_group",
                [name, group, _seconds(_now())],
            )

    def hosts(self) -> tuple[str, ...]:
        """The host applications, such as bridges."""
        with self._transaction() as database:
            return tuple(name for (name,) in database.execute("SELECT name FROM host ORDER BY name"))

    def add_host(self, name: str) -> None:
        """Makes a host application known; raises FleetError where a node is called so."""
        with self._transaction() as database:
            if database.execute("SELECT 1 FROM node WHERE name = ?", [name]).fetchone():
                raise FleetError(f"{name} is a node: a host application cannot be called so")
            database.execute("INSERT INTO host VALUES (?) ON CONFLICT DO NOTHING", [name])

    def put_token(self, node: str, sha256: str, expires_at: dt.datetime) -> None:
        """A node's one token; the one before is no longer good."""
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO token VALUES (?, ?, ?, NULL)", [node, sha256, _seconds(expires_at)]
            )

    def use_token(self, node: str, sha256: str, key_sha256: str) -> bool:
        """Whether it is used for the first time; False for the same key's second time. Raises TokenError."""
        with self._transaction() as database:
            found = database.execute(
                "SELECT sha256, expires_at, key_sha256 FROM token WHERE node = ?", [node]
            ).fetchone()
            unknown = f"this is no token of {node}'s"
            if found is None:
                raise TokenError(f"{node} has no token, or is not known: `fleet enrol {node}` makes one", unknown)
            if not hmac.compare_digest(found[0], sha256):
                raise TokenError(f"this is not {node}'s token, or there is a newer one", unknown)
            is_again = found[2] is not None and hmac.compare_digest(found[2], key_sha256)
            if found[2] is not None and not is_again:
                reason = f"{node}'s token was used already, with another key: `fleet enrol {node}` makes a new one"
                raise TokenError(reason, reason)
            if found[1] <= _seconds(_now()):
                reason = (
                    f"{node}'s token expired at {_time(found[1]).isoformat()}: `fleet enrol {node}` makes a new one"
                )
                raise TokenError(reason, reason)
            database.execute("UPDATE token SET key_sha256 = ? WHERE node = ?", [key_sha256, node])
            return not is_again

    def drop_token(self, node: str) -> None:
        """A node's token is no longer good."""
        with self._transaction() as database:
            database.execute("DELETE FROM token WHERE node = ?", [node])

    def put_certificate(self, certificate: Certificate, renewed_from: int | None = None) -> None:
        """Notes what was issued, and from which one it was renewed; raises FleetError where its node was revoked."""
        values = [f"{certificate.serial:x}", certificate.name, certificate.key_sha256, certificate.chain]
        shown = None if renewed_from is None else f"{renewed_from:x}"
        with self._transaction() as database:
            revoked = "SELECT 1 FROM node WHERE name = ? AND revoked_at NOTNULL"
            if database.execute(revoked, [certificate.name]).fetchone():
                raise FleetError(f"{certificate.name} was revoked: it gets no certificate")
            database.execute(
                "INSERT INTO certificate (serial, name, key_sha256, chain, ends_at, renewed_from) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [*values, _seconds(certificate.ends_at), shown],
            )

    def certificate(self, serial: int) -> Certificate | None:
        """The certificate with that number."""
        with self._transaction() as database:
            row = database.execute(f"{_CERTIFICATES} WHERE serial = ?", [f"{serial:x}"]).fetchone()
            return None if row is None else _certificate(row)

    def certificates_of(self, name: str) -> tuple[Certificate, ...]:
        """Those with that common name, the newest last."""
        with self._transaction() as database:
            rows = database.execute(f"{_CERTIFICATES} WHERE name = ? ORDER BY rowid", [name])
            return tuple(map(_certificate, rows))

    def owner_of_key(self, key_sha256: str) -> str | None:
        """Whose key it is, by the certificates that were issued."""
        with self._transaction() as database:
            found = database.execute("SELECT name FROM certificate WHERE key_sha256 = ?", [key_sha256]).fetchone()
            return None if found is None else str(found[0])

    def revoke_certificates(self, name: str, but_key: str = "") -> int:
        """Calls back those with that common name but for one key's; how many there were.

        Who shows one of them from now on is no news: whoever has a copy of its key has nothing by it any more.
        """
        with self._transaction() as database:
            database.execute(
                "UPDATE certificate SET by_renewal = 0, shown_again_at = NULL WHERE name = ? AND key_sha256 <> ?",
                [name, but_key],
            )
            done = database.execute(
                "UPDATE certificate SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL AND key_sha256 <> ?",
                [_seconds(_now()), name, but_key],
            )
            return done.rowcount

    def revoke_before(self, serial: int) -> int:
        """Calls back what is good and was issued to the same name before the certificate with this number; how many."""
        now = _seconds(_now())
        with self._transaction() as database:
            shown = database.execute("SELECT name, rowid FROM certificate WHERE serial = ?", [f"{serial:x}"]).fetchone()
            done = database.execute(
                "UPDATE certificate SET revoked_at = ?, by_renewal = 1 "
                "WHERE name = ? AND rowid < ? AND revoked_at IS NULL AND ends_at > ?",
                [now, *shown, now],
            )
            return done.rowcount

    def note_shown_again(self, serial: int) -> bool:
        """Whether a renewal had called back the certificate with this number, which is noted then."""
        with self._transaction() as database:
            noted = "UPDATE certificate SET shown_again_at = ? WHERE serial = ? AND by_renewal = 1"
            return database.execute(noted, [_seconds(_now()), f"{serial:x}"]).rowcount > 0

    def note_second_line(self, serial: int) -> bool:
        """Whether a renewal has made a younger good one of the same name that does not come from this, noted then."""
        with self._transaction() as database:
            noted = database.execute(_NOTE_SECOND_LINE, {"serial": f"{serial:x}", "now": _seconds(_now())})
            return noted.rowcount > 0

    def revoke(self, name: str) -> int:
        """Calls back a node or a host application, with all its certificates; how many there were."""
        with self._transaction() as database:
            database.execute("DELETE FROM token WHERE node = ?", [name])
            database.execute("UPDATE node SET revoked_at = ? WHERE name = ?", [_seconds(_now()), name])
            database.execute("DELETE FROM host WHERE name = ?", [name])
        return self.revoke_certificates(name)

    def revoked(self) -> tuple[Revoked, ...]:
        """What a CRL has to name: one that has expired is refused anyway."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT serial, revoked_at FROM certificate WHERE revoked_at NOTNULL AND ends_at > ? ORDER BY rowid",
                [_seconds(_now())],
            )
            return tuple(Revoked(int(serial, 16), _time(at)) for serial, at in rows)

    def next_counter(self, floor: int = 0) -> int:
        """A number above `floor` and above all that this ever returned; durable when it returns."""
        with self._transaction() as database:
            database.execute("UPDATE counter SET last = max(last, ?) + 1", [floor])
            return int(database.execute("SELECT last FROM counter").fetchone()[0])

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._path)


_NODES: Final = (
    "SELECT node.name, of_group, added_at, node.revoked_at, max(ends_at), "
    "(SELECT max(shown_again_at) FROM certificate WHERE name = node.name) FROM node LEFT JOIN certificate "
    "ON certificate.name = node.name AND certificate.revoked_at IS NULL"
)
# Begins with its verb: of another statement sqlite3 does not count the rows.
_NOTE_SECOND_LINE: Final = """
UPDATE certificate SET shown_again_at = :now WHERE serial = :serial AND EXISTS (
    SELECT 1 FROM certificate AS other
    WHERE other.name = certificate.name AND other.rowid > certificate.rowid AND other.renewed_from NOTNULL
        AND other.revoked_at IS NULL AND other.ends_at > :now AND other.serial NOT IN (
            WITH RECURSIVE line (name, serial) AS (
                SELECT name, serial FROM certificate WHERE serial = :serial
                UNION SELECT next.name, next.serial FROM line JOIN certificate AS next
                    ON next.name = line.name AND next.renewed_from = line.serial
            ) SELECT serial FROM line
        )
)
"""
_CERTIFICATES: Final = "SELECT serial, name, key_sha256, chain, ends_at, revoked_at FROM certificate"


def _node(row: tuple[str, str, int, int | None, int | None, int | None]) -> Node:
    name, group, added, revoked, ends, shown_again = row
    return Node(name, group, _time(added), _optional(revoked), _optional(ends), _optional(shown_again))


def _certificate(row: tuple[str, str, str, str, int, int | None]) -> Certificate:
    serial, name, key, chain, ends, revoked = row
    return Certificate(int(serial, 16), name, key, chain, _time(ends), _optional(revoked))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _seconds(at: dt.datetime) -> int:
    return int(at.timestamp())


def _time(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _optional(seconds: int | None) -> dt.datetime | None:
    return None if seconds is None else _time(seconds)
