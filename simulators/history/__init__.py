"""History as fast as it can be computed, for training: what a simulator would have told over hours or years."""

from simulators.history.exchange import exchange_history
from simulators.history.plant import plant_history
from simulators.history.recorded import Incident, Recorded, save
from simulators.history.weather import weather_history

__all__ = ["Incident", "Recorded", "exchange_history", "plant_history", "save", "weather_history"]
