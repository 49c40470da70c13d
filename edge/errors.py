"""Errors of the agent.

EdgeError
├── SourceError   a poll that brought nothing: the device, the API or the camera is at fault
├── SpoolError    the spool cannot keep what it is given
│   └── CorruptSpoolError   its file cannot be read any more
│       └── GarbledBatchError   one batch in it is not what was written
├── ModelError    a model that cannot be served: its files, its manifest or what it does are at fault
└── UplinkError   the broker cannot be reached, refuses, or has gone
"""

from __future__ import annotations


class EdgeError(Exception):
    """The agent cannot do what it was asked; the message says what, where and what to do."""


class SourceError(EdgeError):
    """A source could not be opened or polled; the message names the line, unit and address, URL or camera."""


class SpoolError(EdgeError):
    """The spool cannot keep what it is given."""


class CorruptSpoolError(SpoolError):
    """The spool's file cannot be read any more."""


class GarbledBatchError(CorruptSpoolError):
    """One batch in the spool's file is not what was written."""

    def __init__(self, table: str, batch_no: int) -> None:
        super().__init__(f"batch {batch_no} of {table} is garbled")
        self.batch_no = batch_no


class ModelError(EdgeError):
    """A model that cannot be served; the message says what of it is wrong."""


class UplinkError(EdgeError):
    """The broker cannot be reached, refuses what it is asked, or has gone."""
