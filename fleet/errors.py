"""Errors of the fleet's tools.

FleetError   what an operator asked for cannot be done; the message says what, where and what is allowed
"""

from __future__ import annotations


class FleetError(Exception):
    """What was asked for cannot be done, and nothing of it was left half done."""
