"""Modbus lines: the plant, a water-treatment line of four units, and the bus, any number of units that are alike."""

from simulators.plant.bus_config import BusConfig
from simulators.plant.config import PlantConfig
from simulators.plant.register_map import UNITS

__all__ = ["UNITS", "BusConfig", "PlantConfig"]
