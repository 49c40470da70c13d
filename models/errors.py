"""What goes wrong in making models."""

from __future__ import annotations


class ModelsError(Exception):
    """Base of all errors of this role; the message says what, where and what is allowed."""


class UsageError(ModelsError):
    """Something was asked for that there is not; the message says what there is."""


class DataError(ModelsError):
    """Data that is not there, or is not what it should be."""


class TrainingError(ModelsError):
    """A model that cannot be trained, or whose training came to nothing."""


class EvaluationError(ModelsError):
    """An evaluation that cannot be made, or is not there."""


class ConversionError(ModelsError):
    """A model that cannot be converted, or does not run where it must."""


class RegistryError(ModelsError):
    """A version that is not there, is there already, or may not go where it should."""


class SignatureError(ModelsError):
    """A key that must not be used, or a package that nobody has signed as it is."""
