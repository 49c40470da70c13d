"""The fleet's settings: `fleet.yaml` in the operator's directory."""

from __future__ import annotations

import datetime as dt
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

import yaml
from pydantic import Field, model_validator

from contract.card import Name, unique
from contract.config import Config
from contract.enrolment import BrokerAddress

Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9:.-]{1,253}$")]
Url = Annotated[str, Field(max_length=500, pattern=r"^https://[^\s/]+$")]
_HTTPS_PORT: Final = 443


class Lifetimes(Config):
    """How long things are good."""

    token_hours: float = Field(default=168, gt=0, le=8760, description="hours until a token that nobody used expires")
    node_days: float = Field(default=60, gt=0, le=397, description="days of a device's certificate; renewed at 2/3")
    baked_days: float = Field(
        default=1825,
        gt=0,
        le=3650,
        description="days of a baked certificate, which a site without network cannot renew",
    )
    server_days: float = Field(
        default=397, gt=0, le=397, description="days of the broker's and the hosts' certificates"
    )

    @property
    def token(self) -> dt.timedelta:
        """How long a token is good."""
        return dt.timedelta(hours=self.token_hours)

    @property
    def node(self) -> dt.timedelta:
        """How long a device's certificate is good."""
        return dt.timedelta(days=self.node_days)

    @property
    def baked(self) -> dt.timedelta:
        """How long a baked certificate is good."""
        return dt.timedelta(days=self.baked_days)

    @property
    def server(self) -> dt.timedelta:
        """How long a certificate of a server, a host application or an operator is good."""
        return dt.timedelta(days=self.server_days)


class BrokerSettings(BrokerAddress):
    """The broker, as devices know it, and how the operator's tools reach it."""

    port: int = Field(default=8883, ge=1, le=65_535, description="TCP port, of MQTT over TLS")
    names: tuple[Host, ...] = Field(default=(), description="more names and addresses that its certificate shall have")
    reached_at: Host | None = Field(default=None, description="host for the operator's tools; none: as for devices")
    directory: Path | None = Field(
        default=None, description="where its files are on its machine; none: in the operator's directory, on this one"
    )
    user: Name | None = Field(
        default=None,
        description="account that it runs under when root starts it; none: the owner of the operator's directory, "
        "on another machine Mosquitto's own choice",
    )
    reload: tuple[str, ...] = Field(
        default=(),
        description="command and its words after which the broker has read its files again, as for one on another "
        "machine; none: SIGHUP to the process in broker/mosquitto.pid",
    )

    @property
    def operators_host(self) -> str:
        """Where the operator's tools reach it."""
        return self.reached_at or self.host


class FleetSettings(Config):
    """A fleet."""

    name: str = Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$", description="its name, for people")
    groups: tuple[Name, ...] = Field(min_length=1, description="its Sparkplug groups; the first is for who names none")
    broker: BrokerSettings = Field(description="the broker")
    url: Url = Field(description="enrolment endpoint as devices know it: https://HOST:PORT")
    lifetimes: Lifetimes = Field(default=Lifetimes(), description="how long things are good")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        unique("groups", self.groups)
        try:
            host, _ = urlsplit(self.url).hostname, urlsplit(self.url).port
        except ValueError as exc:
            raise ValueError(f"url: {exc}") from exc
        if not host:
            raise ValueError("url: names no host")
        return self

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of the enrolment endpoint."""
        parts = urlsplit(self.url)
        return str(parts.hostname), parts.port or _HTTPS_PORT

    @property
    def server_names(self) -> tuple[str, ...]:
        """Every name and address by which somebody knows the broker or the endpoint."""
        names = (self.broker.host, self.broker.operators_host, self.endpoint[0], *self.broker.names)
        return tuple(dict.fromkeys(names))

    def to_yaml(self) -> str:
        """The settings as `fleet.yaml`, each line after what it means."""
        return "# A fleet of Headwater; `fleet broker` afterwards has the broker know of changes.\n" + yaml.safe_dump(
            self.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        )
