"""The enrolment endpoint: certificates for devices, over TLS."""

from __future__ import annotations

from fleet.serve.endpoint import Endpoint

__all__ = ["Endpoint"]
