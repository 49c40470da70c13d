"""Mosquitto's configuration and its ACL, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from contract.update import EVERY_NODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fleet.registry import Node
    from fleet.settings import BrokerSettings

BROKER: Final = "headwater-broker"
CA_FILE: Final = "ca.pem"
IDENTITY_FILE: Final = "broker.pem"
CRL_FILE: Final = "crl.pem"
ACL_FILE: Final = "acl"
CONFIG_FILE: Final = "mosquitto.conf"
PID_FILE: Final = "mosquitto.pid"

_NODE_TYPES: Final = ("NBIRTH", "NDATA", "NDEATH")
_DEVICE_TYPES: Final = ("DBIRTH", "DDATA", "DDEATH")


@dataclass(frozen=True, slots=True)
class Rights:
    """One user of the broker, and what it may do there: pairs of `read`, `write` or `readwrite` and a topic filter."""

    user: str
    topics: tuple[tuple[str, str], ...]


def rights_of_node(node: Node) -> Rights:
    """A device: it writes as itself, in its own group, and hears what is meant for it."""
    here, name = f"spBv1.0/{node.group}", node.name
    ours = f"headwater/{node.group}"
    return Rights(
        name,
        (
            *(("write", f"{here}/{kind}/{name}") for kind in _NODE_TYPES),
            *(("write", f"{here}/{kind}/{name}/+") for kind in _DEVICE_TYPES),
            ("read", f"{here}/NCMD/{name}"),
            ("read", f"{here}/DCMD/{name}/+"),
            ("read", f"{ours}/desired/{name}/#"),
            ("read", f"{ours}/desired/{EVERY_NODE}/#"),
            ("read", f"{ours}/blob/#"),
            ("write", f"{ours}/log/{name}"),
            # Whether a host is there, each may know.
            ("read", "spBv1.0/STATE/+"),
        ),
    )


def rights_of_host(name: str) -> Rights:
    """A host application, such as a bridge: it reads all nodes, commands them, and says whether it is there."""
    return Rights(name, (*_HEARS_AND_COMMANDS, ("write", f"spBv1.0/STATE/{name}")))


def rights_of_operator(name: str) -> Rights:
    """An operator's tool: it reads all nodes, commands them, and says what they shall run."""
    told = (("readwrite", "headwater/+/desired/#"), ("readwrite", "headwater/+/blob/#"), ("read", "headwater/+/log/+"))
    return Rights(name, (*_HEARS_AND_COMMANDS, *told))


_HEARS_AND_COMMANDS: Final = (("read", "spBv1.0/#"), ("write", "spBv1.0/+/NCMD/+"), ("write", "spBv1.0/+/DCMD/+/+"))


def acl(rights: Iterable[Rights]) -> str:
    """The ACL. Nodes are named one by one, because a pattern can hold a node to its name but not to its group."""
    return "\n".join(_acl_lines(rights)) + "\n"


def _acl_lines(rights: Iterable[Rights]) -> Iterator[str]:
    yield "# Made by `python -m fleet`, and made again: a change here does not last. What is not allowed is refused."
    for each in rights:
        yield ""
        yield f"user {each.user}"
        for access, topic in each.topics:
            yield f"topic {access} {topic}"


def mosquitto_conf(settings: BrokerSettings, directory: Path, user: str | None) -> str:
    """The configuration; `directory` is where all these files are on the broker's machine, `user` who may read them."""
    account = [] if user is None else ["# When root starts it, it becomes this one at once.", f"user {user}"]
    return "\n".join([*_listener(settings, directory), *account, *_KEEPING, *_data(directory), *_LOGGING, ""])


def _listener(settings: BrokerSettings, directory: Path) -> Iterator[str]:
    yield "# Made by `python -m fleet`, and made again: a change here does not last."
    yield "# MQTT over TLS only. Who somebody is, the certificate says; what they may do, the ACL."
    yield f"listener {settings.port}"
    yield f"cafile {directory / CA_FILE}"
    yield f"certfile {directory / IDENTITY_FILE}"
    yield f"keyfile {directory / IDENTITY_FILE}"
    yield f"crlfile {directory / CRL_FILE}"
    yield "tls_version tlsv1.2"
    yield "require_certificate true"
    yield "# The certificate's common name is the user, and the client id too: nobody can take another's session."
    yield "use_identity_as_username true"
    yield "use_username_as_clientid true"
    yield "allow_anonymous false"
    yield f"acl_file {directory / ACL_FILE}"


def _data(directory: Path) -> Iterator[str]:
    yield f"pid_file {directory / PID_FILE}"
    yield f"persistence_location {directory / 'data'}/"


_KEEPING: Final = (
    "",
    "persistence true",
    "autosave_interval 5",
    "# Queues are bound by bytes, for past a number of messages the broker drops what it has acknowledged.",
    "max_inflight_messages 1000",
    # 0 is for no limit, but with it Mosquitto 2.0.21 hangs up on who publishes where he may not
    # (eclipse-mosquitto/mosquitto#3244).
    "max_queued_messages 2000000000",
    "max_queued_bytes 1073741824",
    "max_packet_size 4194304",
    "max_keepalive 3600",
)
_LOGGING: Final = (
    "",
    "log_dest stdout",
    "log_timestamp_format %Y-%m-%dT%H:%M:%S",
    "connection_messages true",
)
