"""Errors of the simulators.

SimulatorError
├── LedgerError   a ledger that cannot be read
└── TargetError   a reconciliation that cannot be made
"""

from __future__ import annotations


class SimulatorError(RuntimeError):
    """A simulator, a ledger or a reconciliation that cannot go on; the message says why."""


class LedgerError(SimulatorError):
    """A ledger that cannot be read, or a line of it that is no entry."""


class TargetError(SimulatorError):
    """A reconciliation that cannot be made: no database, or a target that is not in it."""
