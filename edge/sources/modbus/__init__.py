"""Modbus: the points of one or more units on one line, TCP or RTU.

Neighbouring points are read in one request. What one address, block or unit does wrong costs the readings of that
address, block or unit alone: these come with bad quality and no value, and the reason is logged once when it changes.
"""

from edge.sources.modbus.config import LineConfig, ModbusConfig, UnitConfig
from edge.sources.modbus.source import ModbusSource

__all__ = ["LineConfig", "ModbusConfig", "ModbusSource", "UnitConfig"]
