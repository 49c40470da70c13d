"""Devices of a fleet: their identities, what is flashed and installed on them, what they shall run, how they fare."""
