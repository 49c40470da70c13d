"""Where models' versions are kept: a directory or an object store, by its URL."""

from models.registry.registry import Registered, Registry
from models.registry.stages import Move, Stage

__all__ = ["Move", "Registered", "Registry", "Stage"]
