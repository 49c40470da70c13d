"""Every kind of source there is: a new one is a file beside these and a name in the union."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge.sources.base import Source, SourceConfig
from edge.sources.camera import CameraConfig
from edge.sources.modbus import ModbusConfig
from edge.sources.rest import RestConfig

AnySource = Annotated[ModbusConfig | RestConfig | CameraConfig, Field(discriminator="type")]

__all__ = ["AnySource", "CameraConfig", "ModbusConfig", "RestConfig", "Source", "SourceConfig"]
