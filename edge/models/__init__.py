"""Models on the device: windows of readings through TFLite in a process of its own, results as readings."""

from edge.models.config import InferenceConfig, ModelConfig
from edge.models.models import Models

__all__ = ["InferenceConfig", "ModelConfig", "Models"]
