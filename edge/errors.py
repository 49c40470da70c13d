"""Errors of the agent.

EdgeError
├── SourceError   a poll that brought nothing: the device, the API or the camera is at fault
├── SpoolError    the spool cannot keep what it is given
│   └── CorruptSpoolError   its file cannot be read any more
│       └── GarbledBatchError   one batch in it is not what was written
├── IdentityError who the node is cannot be shown: no certificate, one that does not fit, or none to be had
├── ModelError    a model that cannot be served: its files, its manifest or what it does are at fault
├── UpdateError   an update that is refused, or that did not work
│   ├── NotNowError   one that cannot go on now, and is tried again
│   └── RolledBackError   one that was tried and did not work: what was before runs again
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


class IdentityError(EdgeError):
    """The node's certificate is not there, does not fit, or is not to be had; the message says what to do."""


class ModelError(EdgeError):
    """A model that cannot be served; the message says what of it is wrong."""


class UpdateError(EdgeError):
    """An update is refused, or did not work; the message says why."""


class NotNowError(UpdateError):
    """An update cannot go on now; it is tried again."""


class RolledBackError(UpdateError):
    """An update was tried and did not work: what was before runs again."""


class UplinkError(EdgeError):
    """The broker cannot be reached, refuses what it is asked, or has gone."""
