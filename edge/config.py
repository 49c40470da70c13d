"""The agent's configuration: one YAML, read by `contract.config.read_config(path, AgentConfig)`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time
from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from contract.config import Config, Tls
from contract.enrolment import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from contract.topics import check_identifier
from edge.enrol.config import IdentityConfig  # noqa: TC001 - pydantic reads the annotations at run time
from edge.models.config import InferenceConfig, ModelConfig
from edge.sources import AnySource  # noqa: TC001 - pydantic reads the annotations at run time
from edge.sources.base import Place
from edge.update.config import UpdateConfig  # noqa: TC001 - pydantic reads the annotations at run time
from edge.uplink import MqttConfig  # noqa: TC001 - pydantic reads the annotations at run time

MIB = 1 << 20


def _node_identifier(identifier: str) -> str:
    check_identifier(identifier, "group or node")
    return identifier


Identifier = Annotated[str, AfterValidator(_node_identifier)]


class HealthConfig(Config):
    """The health page, on loopback only."""

    port: int = Field(ge=0, le=65_535, description="TCP port on 127.0.0.1; 0: any free one, which the log names")


class SpoolConfig(Config):
    """What is kept on disk until Kafka has it."""

    max_bytes: int = Field(default=256 * MIB, ge=MIB // 4, description="bytes on disk; beyond, the oldest are evicted")
    commit_interval_s: float = Field(
        default=0.1, ge=0, le=10, description="seconds for which readings gather before one commit to disk"
    )
    buffer_bytes: int = Field(
        default=4 * MIB, ge=65_536, description="bytes held in memory while the disk takes nothing"
    )
    min_free_bytes: int = Field(
        default=64 * MIB,
        ge=0,
        description="the spool grows no further where less would be free on its disk (at most a twentieth of the disk)",
    )


class ClockConfig(Config):
    """When the system's clock is believed."""

    wait_s: float = Field(
        default=300.0,
        ge=0,
        le=30 * 86_400,
        description="seconds after boot for which a clock that is not synchronised is not believed; 0: always believed",
    )


class AgentConfig(Config):
    """One agent: a Sparkplug edge node, each of whose sources is a device."""

    group: Identifier = Field(description="Sparkplug group id")
    node: Identifier = Field(description="Sparkplug edge node id, unique in the group")
    state_dir: Path = Field(description="directory for the spool; one agent at a time uses it")
    mqtt: MqttConfig = Field(description="the broker")
    identity: IdentityConfig | None = Field(
        default=None, description="the node's key and certificate, kept alive by the agent; none: see mqtt.tls"
    )
    health: HealthConfig | None = Field(default=None, description="the health page; none: not served")
    spool: SpoolConfig = Field(default_factory=SpoolConfig, description="the spool")
    clock: ClockConfig = Field(default_factory=ClockConfig, description="the system's clock")
    sources: tuple[AnySource, ...] = Field(min_length=1, description="what is polled")
    update: UpdateConfig | None = Field(
        default=None, description="what is taken from the node's fleet; none: nothing is"
    )
    models: tuple[ModelConfig, ...] = Field(default=(), description="what is computed from their readings")
    inference: InferenceConfig = Field(default_factory=InferenceConfig, description="the process that runs the models")
    jitter_s: float = Field(
        default=0.0, ge=0, le=60, description="up to so many seconds each poll is put off at random"
    )
    health_interval_s: float = Field(
        default=10.0, ge=0.05, le=86_400, description="seconds between the node's own metrics"
    )
    max_command_age_s: float = Field(
        default=60.0, gt=0, le=3600, description="seconds that a command's own time may be from now; others are refused"
    )
    stuck_after_s: float = Field(
        default=30.0,
        ge=0.1,
        le=86_400,
        description="seconds beyond its time-out after which a source is cut off; at twice that it is stuck",
    )
    drain_timeout_s: float = Field(default=30.0, ge=0, description="seconds a stop waits for the spool to be delivered")

    @property
    def broker(self) -> MqttConfig:
        """The broker, and who we are to it."""
        if self.identity is None:
            return self.mqtt
        at = self.identity.directory
        tls = Tls(ca_file=at / CA_FILE, cert_file=at / CERTIFICATE_FILE, key_file=at / KEY_FILE)
        return self.mqtt.model_copy(update={"tls": tls, "client_id": self.mqtt.client_id or self.node})

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.identity is not None and self.mqtt.tls is not None:
            raise ValueError("identity and mqtt.tls exclude each other: an identity has certificate, key and authority")
        return self

    @field_validator("sources")
    @classmethod
    def _names_are_unique(cls, sources: tuple[AnySource, ...]) -> tuple[AnySource, ...]:
        twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if twice:
            raise ValueError(f"source names must be unique, given more than once: {', '.join(twice)}")
        return sources

    @field_validator("sources")
    @classmethod
    def _claims_do_not_meet(cls, sources: tuple[AnySource, ...]) -> tuple[AnySource, ...]:
        claimed: dict[str, str] = {}
        for source in sources:
            if (claim := source.claims()) is not None and (
                other := claimed.setdefault(claim, source.name)
            ) != source.name:
                raise ValueError(
                    f"{claim} is of one source alone, found in {other} and {source.name}: join them in one"
                )
        return sources

    @model_validator(mode="after")
    def _updates_have_their_topics(self) -> Self:
        if self.update is not None and self.mqtt.profile == "strict":
            raise ValueError("update is for profile durable alone: strict has no topics for it")
        if self.update is not None and not self.update.key_files and self.identity is None:
            raise ValueError("update needs key_files, or an identity, with which the fleet's key comes")
        return self

    @model_validator(mode="after")
    def _sources_know_where_they_stand(self) -> Self:
        for source in self.sources:
            source.settle(Place(self.group, self.node, self.state_dir, self.inference))
        return self

    @model_validator(mode="after")
    def _models_have_their_inputs(self) -> Self:
        if not self.models:
            return self
        known = {source.name: {info.name for info in source.metrics()} for source in self.sources}
        for model in self.models:
            if model.name in known:
                raise ValueError(f"models and sources must have different names, both have {model.name}")
            for name in model.inputs:
                source, metric = model.address(name)
                if metric not in known.get(source, ()):
                    raise ValueError(f"model {model.name}: input {name}: there is no {source}/{metric}")
        if twice := [name for name, count in Counter(model.name for model in self.models).items() if count > 1]:
            raise ValueError(f"model names must be unique, given more than once: {', '.join(twice)}")
        return self
