"""Certificate authorities of our own and what they issue, all of it PEM: P-256 keys, certificates, CRLs."""

from __future__ import annotations

from fleet.authority.identity import Identity
from fleet.authority.issuing import certify, issue, new_authority, new_issuing, still_good
from fleet.authority.requests import RequestError, key_digest, new_request, requested_key
from fleet.authority.revoking import Revoked, is_list_of, revocation_list

__all__ = [
    "Identity",
    "RequestError",
    "Revoked",
    "certify",
    "is_list_of",
    "issue",
    "key_digest",
    "new_authority",
    "new_issuing",
    "new_request",
    "requested_key",
    "revocation_list",
    "still_good",
]
