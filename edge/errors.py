"""Errors of the agent.

EdgeError
├── SourceError   a poll that brought nothing: the device, the API or the camera is at fault
└── SpoolError    the spool cannot keep what it is given
"""

from __future__ import annotations


class EdgeError(Exception):
    """The agent cannot do what it was asked; the message says what, where and what to do."""


class SourceError(EdgeError):
    """A source could not be opened or polled; the message names the line, unit and address, URL or camera."""


class SpoolError(EdgeError):
    """The spool cannot keep what it is given."""
