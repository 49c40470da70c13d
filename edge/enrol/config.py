"""The part of the configuration that says who the node can show to be."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations at run time

from pydantic import Field

from contract.config import Config


class IdentityConfig(Config):
    """Key and certificate, as `python -m edge enrol` has put them there; the agent keeps them alive."""

    directory: Path = Field(description="directory of key.pem, cert.pem and ca.pem, which only the agent can read")
    url: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^https://[^\s/]+(/\S*)?$",
        description="the endpoint that renews the certificate; none: the one that the enrolment named",
    )
