"""A fleet's configuration: how many nodes, what they send, and what befalls them. `scenarios/fleet.yaml` shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from contract.config import Config, Credentials, Tls
from contract.topics import check_identifier

if TYPE_CHECKING:
    import ssl

_MAX_NODES: Final = 2000
_PLACES: Final = ("{group}", "{node}")


def _identifier(identifier: str) -> str:
    check_identifier(identifier, "group, node or device")
    return identifier


Identifier = Annotated[str, AfterValidator(_identifier)]
Share = Annotated[float, Field(ge=0, le=1)]


class BrokerConfig(Credentials):
    """The broker. `{node}` in the name of a certificate or key, and in the client id, is each node's own name."""

    host: str = Field(default="127.0.0.1", description="Name or address of the broker")
    port: int = Field(default=1883, ge=1, le=65_535, description="TCP port of the broker")
    tls: Tls | None = Field(default=None, description="TLS; none: plain TCP")
    client_id: str = Field(default="{group}-{node}", description="Client id of each node; the fleet's CA wants {node}")
    keepalive_s: int = Field(default=30, ge=1, le=3600, description="Silence after which the line is tested, s")
    connect_timeout_s: float = Field(default=10.0, gt=0, le=60, description="Longest wait for the broker's answer, s")
    session_expiry_s: int = Field(
        default=0, ge=0, le=2**32 - 1, description="How long the broker keeps a session, s; 0: as agents have it, none"
    )
    primary_host: Identifier | None = Field(default=None, description="Host whose STATE is waited for; none: nobody")

    @model_validator(mode="after")
    def _client_ids_differ(self) -> Self:
        if "{node}" not in self.client_id:
            raise ValueError("client_id needs {node}: two clients of one id throw each other out")
        return self

    def client_id_of(self, group: str, node: str) -> str:
        """A node's client id."""
        return self.client_id.replace("{group}", group).replace("{node}", node)

    def tls_of(self, group: str, node: str) -> ssl.SSLContext | None:
        """What a node connects with, None for plain TCP; raises ConfigError for files that cannot be used."""
        if self.tls is None:
            return None
        files = {key: _filled(path, group, node) for key, path in self.tls if isinstance(path, Path)}
        return Tls(**files).context()

    @property
    def has_one_identity(self) -> bool:
        """Whether all nodes show the same certificate, or none."""
        return self.tls is None or not any(place in str(path) for _, path in self.tls for place in _PLACES)


def _filled(path: Path, group: str, node: str) -> Path:
    return Path(str(path).replace("{group}", group).replace("{node}", node))


class Churn(Config):
    """Nodes that come and go: while away they are switched off, and sample nothing."""

    share: Share = Field(default=0.2, description="Part of the nodes that do")
    mean_up_s: float = Field(default=60.0, gt=0, description="How long they stay on average, s")
    mean_away_s: float = Field(default=20.0, gt=0, description="How long they are away on average, s")
    killed: Share = Field(default=0.5, description="Part of the departures without a goodbye")


class Outage(Config):
    """A line that is lost once; the nodes go on sampling."""

    start_s: float = Field(ge=0, description="Seconds after the fleet's start")
    duration_s: float = Field(gt=0, description="For so long, s")
    site: int | None = Field(default=None, ge=0, description="The site that it hits; none: all nodes")
    silent: bool = Field(default=False, description="Nobody is told that the line is dead; false: it is cut")


class RandomOutages(Config):
    """Lines that are lost again and again, drawn from the seed."""

    mean_pause_s: float = Field(gt=0, description="How long a line holds on average, s")
    mean_duration_s: float = Field(gt=0, description="How long it is lost on average, s")
    silent: Share = Field(default=0.25, description="Part of the outages of which nobody is told")


class WrongClocks(Config):
    """Clocks that are wrong, drift, and are set to another wrong time, back as often as forward."""

    share: Share = Field(default=0.3, description="Part of the nodes that have one")
    offset_s: float = Field(default=90.0, ge=0, le=600, description="At most so wrong, either way, s")
    drift_ppm: float = Field(default=200.0, ge=0, le=10_000, description="At most so fast or slow, millionths")
    mean_pause_s: float = Field(default=120.0, gt=0, description="Between two times when it is set, on average, s")


class SlowNodes(Config):
    """Nodes behind a thin line: they send one message after the other, with a pause between."""

    share: Share = Field(default=0.05, description="Part of the nodes that are slow")
    pause_s: float = Field(default=0.3, gt=0, le=60, description="Pause after each message, s")


class Misbehaving(Config):
    """Nodes that are not as they should be."""

    duplicate: Share = Field(default=0.0, description="Part of the nodes that send every message twice")
    foreign: Share = Field(
        default=0.0, description="Part that speaks plain Sparkplug: QoS 0, aliases, some that no birth has told"
    )


class FleetConfig(Config):
    """A fleet. The same seed gives the same nodes, the same values and the same mishaps at the same seconds."""

    seed: int = Field(default=1, ge=0, description="Seed of all that is drawn")
    group: Identifier = Field(default="fleet", description="Sparkplug group")
    nodes: int = Field(default=50, ge=1, le=_MAX_NODES, description="How many nodes")
    prefix: Identifier = Field(default="sim", description="Nodes are called PREFIX-0000 and so on")
    device: Identifier = Field(default="line", description="The one device of each node")
    metrics: int = Field(default=10, ge=1, le=1000, description="Metrics of each device")
    interval_s: float = Field(default=1.0, ge=0.01, description="From one sample of a node to the next, s")
    sites: int = Field(default=5, ge=1, description="Nodes are at so many sites, in turn")
    connect_within_s: float = Field(default=5.0, ge=0, description="The nodes connect one after another in so long, s")
    max_kept: int = Field(default=300, ge=2, description="Batches that a node keeps; then the oldest give way")
    window: int = Field(default=256, ge=1, le=10_000, description="Batches of a lane sent and not known to be durable")
    replay_per_s: float = Field(default=200.0, gt=0, description="Batches a second of a node's backlog")
    resend_after_s: float = Field(default=5.0, gt=0, description="Without a durable mark for so long it sends again, s")
    divert_after_s: float = Field(
        default=5.0, ge=0, description="Without a line for so long it keeps samples for replay, s"
    )
    broker: BrokerConfig = Field(default=BrokerConfig(), description="The broker")
    churn: Churn | None = Field(default=None, description="Nodes that come and go")
    outages: tuple[Outage, ...] = Field(default=(), description="Lines that are lost once")
    node_outages: RandomOutages | None = Field(default=None, description="Lines of single nodes that are lost")
    site_outages: RandomOutages | None = Field(default=None, description="Lines of whole sites that are lost")
    clocks: WrongClocks | None = Field(default=None, description="Clocks that are wrong")
    slow: SlowNodes | None = Field(default=None, description="Nodes that are slow")
    misbehaving: Misbehaving = Field(default=Misbehaving(), description="Nodes that misbehave")

    @property
    def readings_per_s(self) -> float:
        """Of all nodes together, while all are up."""
        return self.nodes * self.metrics / self.interval_s
