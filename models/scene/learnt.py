"""What the registry's models of cameras have learnt from, for `requests`: nobody trains on the same samples twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contract.scene import SceneManifest

if TYPE_CHECKING:
    import datetime as dt

    from models.registry import Registry


def learnt_until(registry: Registry) -> dict[str, dt.datetime]:
    """By camera when the newest sample was taken that a model of it has learnt from; raises RegistryError."""
    found: dict[str, dt.datetime] = {}
    for name in registry.names():
        for version in registry.versions(name):
            card = version.card
            if isinstance(card, SceneManifest) and card.training is not None:
                found[card.camera] = max(card.training.to_at, found.get(card.camera, card.training.to_at))
    return found
