"""The operator's directory: what a fleet is known by, and everything secret of it.

fleet.yaml               settings
root/{ca.key,ca.pem}     the authority that devices trust; its key is for a safe
issuing/{ca.key,ca.pem}  the one below it, which signs every day
broker/                  what Mosquitto runs on
serve/                   the enrolment endpoint's key and certificate
operator/                identities of the operator's tools
hosts/                   those of host applications, such as bridges
update/{key,pub}         Ed25519: signs what devices shall run
registry.sqlite          nodes, tokens, certificates
"""

from __future__ import annotations

import datetime as dt
import logging
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import TypeAdapter, ValidationError

from contract.card import Name
from contract.config import ConfigError, read_config
from fleet.authority import Identity, certify, issue, key_digest, still_good
from fleet.broker import keep_files, reload
from fleet.cards import baked_card, card_with_token
from fleet.errors import FleetError
from fleet.files import make_folder, read_file, write_file
from fleet.operators import OPERATORS, operator
from fleet.registry import Certificate, Registry
from fleet.settings import FleetSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from fleet.cards import Card
    from fleet.operators import Operator
    from fleet.registry import Node

logger = logging.getLogger(__name__)
SETTINGS_FILE: Final = "fleet.yaml"
# An operator looks in now and then.
_RENEWED_BEFORE: Final = dt.timedelta(days=60)
# Names of this kind are the fleet's own.
OWN_PREFIX: Final = "headwater-"
_OWN_NAMES: Final = frozenset({*OPERATORS, "headwater-broker", "headwater-endpoint", "headwater-witness"})


@dataclass(frozen=True, slots=True)
class Home:
    """An operator's directory; `fleet.founding` makes one."""

    path: Path
    settings: FleetSettings

    @classmethod
    def open(cls, path: Path) -> Home:
        """The one at `path`; raises ConfigError where there is none, and where others may look into it."""
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            settings = read_config(path / SETTINGS_FILE, FleetSettings) if (path / SETTINGS_FILE).exists() else None
        except OSError:
            settings = None
        if settings is None:
            raise ConfigError(f"{path}: is no fleet's directory; `fleet init` makes one, --home names another")
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path}: is open to others (mode {mode:o}), and secrets are in it: chmod 700 {path}")
        return cls(path, settings)

    @property
    def registry(self) -> Registry:
        """Nodes, tokens and certificates."""
        return Registry(self.path / "registry.sqlite")

    @property
    def root_pem(self) -> bytes:
        """Certificate of the root, which devices trust."""
        path = self.path / "root/ca.pem"
        pem = read_file(path)
        try:
            x509.load_pem_x509_certificate(pem)
        except ValueError as exc:
            raise FleetError(f"{path}: is no certificate in PEM") from exc
        return pem

    @property
    def issuing_pem(self) -> bytes:
        """Certificate of the authority that signs every day."""
        return read_file(self.path / "issuing/ca.pem")

    def issuing(self) -> Identity:
        """The authority that signs every day; raises FleetError."""
        path = self.path / "issuing/ca.key"
        found = Identity(read_file(path) + self.issuing_pem)
        if not found.is_whole:
            raise FleetError(f"{path}: is not the key, in PEM and without a password, of the certificate beside it")
        return found

    @property
    def update_public_pem(self) -> bytes:
        """By which devices know who signs updates."""
        return read_file(self.path / "update/pub")

    def update_key(self) -> Ed25519PrivateKey:
        """What signs updates; raises FleetError."""
        path = self.path / "update/key"
        try:
            key = load_pem_private_key(read_file(path), password=None)
        except (ValueError, TypeError) as exc:
            raise FleetError(f"{path}: is no private key in PEM without a password") from exc
        if not isinstance(key, Ed25519PrivateKey):
            raise FleetError(f"{path}: is not a key of Ed25519")
        return key

    def add_node(self, name: str, group: str | None = None) -> Node:
        """Makes a node known, to the broker too; without a group it stays in its own, or comes into the first.

        Raises FleetError.
        """
        self.registry.add_node(name, self.group_for(name, group))
        # Its group is held to by the ACL. Told again even if nothing changed: last time it may have been in vain.
        keep_files(self)
        reload(self)
        return self.registry.node(name)

    def group_for(self, node: str, group: str | None = None) -> str:
        """The group that a node comes into, or stays in; raises FleetError where it cannot be called so."""
        known = {each.name: each.group for each in self.registry.nodes() if each.revoked_at is None}
        chosen = group or known.get(node, self.settings.groups[0])
        if chosen not in self.settings.groups:
            raise FleetError(f"there is no group {chosen}: allowed are {', '.join(self.settings.groups)} (fleet.yaml)")
        if known.get(node, chosen) != chosen:
            raise FleetError(f"{node} is a node of group {known[node]}: names are unique over all groups")
        if node.startswith(OWN_PREFIX):
            raise FleetError(f"{node}: names that begin with {OWN_PREFIX} are the fleet's own")
        _check_name(node)
        return chosen

    def add_host(self, name: str) -> None:
        """Makes a host application known, to the broker too; raises FleetError."""
        self.check_host(name)
        self.registry.add_host(name)
        keep_files(self)
        reload(self)

    def check_host(self, name: str) -> None:
        """Raises FleetError where a host application cannot be called so."""
        if name in _OWN_NAMES:
            raise FleetError(f"{name} is a name of the fleet's own")
        _check_name(name)

    def enrolment_for(self, node: str, *, baked: bool = False) -> Card:
        """What goes on a known node's card, good at once: with a new token, which voids the one before, or baked.

        A baked card has key and certificate instead, for a site without network. Raises FleetError.
        """
        with self.new_enrolment(node, baked=baked) as card:
            return card

    @contextmanager
    def new_enrolment(self, node: str, *, baked: bool = False) -> Iterator[Card]:
        """The same, good when the context is left without an exception: else the token of before is still good."""
        card = baked_card(self, node) if baked else card_with_token(self, node)
        yield card
        try:
            card.accept(self)
        except BaseException:  # also Ctrl-C: what was made looks as if it were good
            logger.error("%s: do it again: what was made now is not good, or what was made before still is", node)  # noqa: TRY400 - who raised it is told by whoever catches it
            raise

    def operator(self) -> AbstractContextManager[Operator]:
        """An identity of the operator's for the broker that nobody else uses meanwhile; raises FleetError."""
        return operator(self)

    def certify(self, name: str, key: ec.EllipticCurvePublicKey, renewed_from: int | None = None) -> bytes:
        """A device's certificate for its key, noted; itself and those up to the root as PEM."""
        return self._noted(name, key, certify(self.issuing(), name, key, self.settings.lifetimes.node), renewed_from)

    def issue(self, name: str, hosts: Sequence[str] = (), life: dt.timedelta | None = None) -> Identity:
        """A new identity, noted: of a server where hosts are given."""
        made = issue(self.issuing(), name, life or self.settings.lifetimes.server, hosts)
        self._noted(name, made.key.public_key(), made.chain_pem)
        return made

    def is_good(self, path: Path, hosts: Sequence[str] = ()) -> bool:
        """Whether there is an identity that names all these hosts and lives for some time yet."""
        return path.exists() and still_good(Identity(read_file(path)), self.issuing(), hosts, self.good_until)

    @property
    def good_until(self) -> dt.datetime:
        """Whose server's certificate ends before this is to be renewed."""
        return dt.datetime.now(dt.UTC) + min(_RENEWED_BEFORE, self.settings.lifetimes.server / 3)

    def keep(self, path: Path, name: str, hosts: Sequence[str] = ()) -> Path:
        """The file of an identity, made anew where there is none that is good."""
        make_folder(path.parent)
        if not self.is_good(path, hosts):
            write_file(path, self.issue(name, hosts).pem)
        return path

    def _noted(self, name: str, key: ec.EllipticCurvePublicKey, chain: bytes, renewed_from: int | None = None) -> bytes:
        found = x509.load_pem_x509_certificate(chain)
        ends = found.not_valid_after_utc
        made = Certificate(found.serial_number, name, key_digest(key), chain.decode(), ends)
        self.registry.put_certificate(made, renewed_from)
        return chain


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as exc:
        raise FleetError(f"{name!r} is no name: allowed are letters, digits, '.', '_' and '-', up to 64") from exc
