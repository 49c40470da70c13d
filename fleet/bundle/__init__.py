"""Bundles: the agent and all that it needs, made on the operator's machine for a device without internet.

    bundle.tar.gz                                on the device
    install, about                               run and read once
    sums/                                        what is in the next two, as `sha256sum --check` reads it
    version/{lib/{contract,edge},deps,manifest.json}    /opt/headwater/versions/VERSION
    deps/                                        /opt/headwater/deps/NAME: the libraries, unpacked; versions share them
    system/                                      /: launcher, set-up, units
    node/                                        into /etc/headwater: what is one node's alone

The same in a Debian package. Wheels are unpacked here: the device needs no pip, no venv and no compiler, and an update
of the agent alone is small. The same inputs give the same bytes.
"""

from __future__ import annotations

from fleet.bundle.make import Bundle, BundleKind, Order, first_boot_script, make_bundle, plan
from fleet.bundle.node import NodeFiles, node_files
from fleet.bundle.read import About, read_about
from fleet.bundle.target import ARCHITECTURES, PYTHONS, Target
from fleet.bundle.wheels import Locked, Wheel

__all__ = [
    "ARCHITECTURES",
    "PYTHONS",
    "About",
    "Bundle",
    "BundleKind",
    "Locked",
    "NodeFiles",
    "Order",
    "Target",
    "Wheel",
    "first_boot_script",
    "make_bundle",
    "node_files",
    "plan",
    "read_about",
]
