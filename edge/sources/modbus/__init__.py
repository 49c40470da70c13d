"""Modbus: the points of one or more units on one line, TCP or RTU.

Neighbouring points are read in one request. What one address, block or unit does wrong costs the readings of that
address, block or unit alone: these come with bad quality and no value, and the reason is logged once when it changes.

    config    the line and its units        points, profile     what is read; datatypes are listed in `points`
    source    polls and writes              asking              one poll of one unit
    pieces    requests of a poll            learning, blocks    how they are planned, and what is learned
    line      one request at a time         framing, transport  its bytes, and the ports they go through
    values    registers to a value          decoding, orders    the same for a whole answer; `writing` is the inverse
    budget    what a poll takes             probe*              the command that explores an unknown device
"""

from edge.sources.modbus.config import LineConfig, ModbusConfig, UnitConfig
from edge.sources.modbus.source import ModbusSource

__all__ = ["LineConfig", "ModbusConfig", "ModbusSource", "UnitConfig"]
