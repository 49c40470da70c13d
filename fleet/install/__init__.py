"""Installs a bundle on a device that already runs, over SSH."""

from __future__ import annotations

from fleet.install.device import Choices, Device, Installed, install, look_at
from fleet.install.remote import Remote

__all__ = ["Choices", "Device", "Installed", "Remote", "install", "look_at"]
