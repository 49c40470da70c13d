"""Errors of the role.

GrafanaError
├── MacroError      a query that Grafana could not expand, or would expand into something else
├── LayoutError     panels that do not fit beside each other
└── AlertError      a rule that Grafana could not evaluate, or would keep for ever
"""

from __future__ import annotations


class GrafanaError(Exception):
    """Base of all below; its message stands alone."""


class MacroError(GrafanaError):
    """A macro or variable of a query is unknown or wrong; the message names it."""


class LayoutError(GrafanaError):
    """A row of panels is wider than the dashboard, or a panel too small to read."""


class AlertError(GrafanaError):
    """An alert rule's answer is not what the alert engine takes, or a rule is forgotten; the message says which."""
