"""The plant: a water-treatment line behind a Modbus TCP server of four units."""

from simulators.plant.config import PlantConfig
from simulators.plant.register_map import UNITS

__all__ = ["UNITS", "PlantConfig"]
