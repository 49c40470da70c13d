"""`python -m fleet bundle [NODE]`: the agent and all that it needs, in one file."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contract.config import ConfigError
from fleet.bundle import ARCHITECTURES, PYTHONS, BundleKind, NodeFiles, Order, Target, make_bundle, node_files, plan
from fleet.cli.arguments import home_path, open_home, takes_dry_run, takes_home, takes_json
from fleet.cli.command import OK, Command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from fleet.bundle import Bundle, Locked, Wheel

BUNDLES: Final = "bundles"
_MB: Final = 1_000_000


def _add_arguments(parser: ArgumentParser) -> None:
    takes_home(parser)
    parser.add_argument(
        "node", nargs="?", metavar="NODE", help="with this node's enrolment: a secret; without: the agent for any"
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--deb", dest="kind", action="store_const", const=BundleKind.DEB, help="a Debian package")
    kind.add_argument(
        "--tar", dest="kind", action="store_const", const=BundleKind.TAR, help="for `fleet install` and `fleet flash`"
    )
    kind.add_argument(
        "--update", dest="kind", action="store_const", const=BundleKind.UPDATE, help="a version for `fleet rollout`"
    )
    parser.add_argument("--arch", choices=ARCHITECTURES, help="needed: processor, as Debian calls it")
    parser.add_argument("--python", choices=PYTHONS, help="needed; 3.11: Debian 12, 3.13: Debian 13")
    takes_node_files(parser)
    parser.add_argument("--whole", action="store_true", help="an update with its libraries, for devices without them")
    takes_wheels(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where (default: under its own name in HOME/bundles)")
    takes_dry_run(parser)
    takes_json(parser)


def takes_node_files(parser: ArgumentParser) -> None:
    """The options of what is a node's alone, for `read_node_files` and `with_card`."""
    parser.add_argument("--group", help="the node's group (default: the one it is in, else the fleet's first)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's edge.yaml")
    parser.add_argument("--models", type=Path, metavar="DIR", help="models, a directory each, for /var/lib/headwater")
    parser.add_argument(
        "--baked", action="store_true", help="key and certificate, no token: for a site without network"
    )


def takes_wheels(parser: ArgumentParser) -> None:
    """The option --wheels, for `check_wheels`."""
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="take wheels from here, and no network for them")


def check_wheels(args: Namespace) -> None:
    """Raises ConfigError where --wheels is no directory."""
    if args.wheels is not None and not args.wheels.is_dir():
        raise ConfigError(f"--wheels: found {str(args.wheels)!r}, allowed: a directory with wheels")


def _bundle(args: Namespace) -> int:
    _check_use(args)
    target = Target.parse(args.arch, args.python)
    files = None if args.node is None else read_node_files(args, args.node)
    if args.dry_run:
        return _tell_plan(args, target)
    out = args.out or bundles_folder(args)
    with nullcontext() if files is None else with_card(args, args.node, files) as whole:
        order = Order(args.kind, target, args.node, whole, whole=args.whole)
        bundle = make_bundle(order, out, args.wheels, folder=args.out is None, told=_say)
    _tell(args, target, bundle)
    return OK


def _check_use(args: Namespace) -> None:
    needed = (("--deb, --tar or --update", args.kind), ("--arch", args.arch), ("--python", args.python))
    if missing := [option for option, found in needed if found is None]:
        raise ConfigError(f"bundle: needs {', and '.join(missing)}; `fleet bundle --help` explains them")
    check_wheels(args)
    if args.out is not None and (args.out.is_dir() or not args.out.parent.is_dir()):
        raise ConfigError(f"--out: found {str(args.out)!r}, allowed: a file in a directory that is there")
    of_node = [option for option in ("group", "config", "models", "baked") if getattr(args, option)]
    if of_node and args.node is None:
        raise ConfigError(f"--{of_node[0]}: is a node's: name the node")
    if args.node is not None and args.kind is BundleKind.UPDATE:
        raise ConfigError(f"--update: is the same for all nodes, found {args.node}")
    if args.whole and args.kind is not BundleKind.UPDATE:
        raise ConfigError("--whole: other bundles have their libraries anyway; allowed with --update")


def read_node_files(args: Namespace, node: str) -> NodeFiles:
    """A node's configuration and models, checked; raises ConfigError and FleetError."""
    return node_files(node, open_home(args).group_for(node, args.group), args.config, args.models)


@contextmanager
def with_card(args: Namespace, node: str, files: NodeFiles) -> Iterator[NodeFiles]:
    """And its enrolment; the node is known from now on. Raises FleetError.

    The enrolment is good, and a token of before no longer, when what is done with it was done without an exception.
    """
    home = open_home(args)
    home.add_node(node, args.group)
    with home.new_enrolment(node, baked=args.baked) as card:
        if card.certificate_ends_at is not None:
            ends_at = f"{card.certificate_ends_at:%Y-%m-%d}"
            _say(f"{node}: its baked certificate is good until {ends_at}, or until the node renews a later one")
        yield files.with_card(card)


def bundles_folder(args: Namespace) -> Path:
    """Where bundles lie; here, where there is no operator's directory."""
    home = home_path(args)
    return home / BUNDLES if home.is_dir() else Path()


def _tell_plan(args: Namespace, target: Target) -> int:
    locked = plan(target)
    if args.json:
        print(json.dumps({"made": False, **_about(target), "packages": [_named(line) for line in locked]}))
        return OK
    print(
        f"would make {args.out or f'a file in {bundles_folder(args)}'}, for {target.arch} with Python {target.python}:"
    )
    for line in locked:
        print(f"  {line.name} {line.version}")
    _tell_gaps(target)
    return OK


def _tell(args: Namespace, target: Target, bundle: Bundle) -> None:
    if args.json:
        told = {
            "made": True,
            "path": str(bundle.path),
            "version": bundle.version,
            "size_bytes": bundle.size_bytes,
            "unpacked_bytes": bundle.unpacked_bytes,
            "sha256": bundle.sha256,
            **_about(target),
            "packages": [{**_named(wheel), "sha256": wheel.sha256} for wheel in bundle.wheels],
        }
        print(json.dumps(told))
        return
    print(f"{bundle.path}: version {bundle.version}, {len(bundle.wheels)} libraries, sha256 {bundle.sha256}")
    print(f"{bundle.size_bytes / _MB:.1f} MB, on the device {bundle.unpacked_bytes / _MB:.0f} MB")
    _tell_gaps(target)


def _tell_gaps(target: Target) -> None:
    if debian := target.from_debian():
        print(f"Debian's packages must be on the device, PyPI has no wheels: {' '.join(sorted(debian.values()))}")
    if lacking := target.lacking():
        print(f"there are no wheels of {', '.join(sorted(lacking))}: models do not run there")


def _say(text: str) -> None:
    """Progress, which is none of what programs read."""
    print(text, file=sys.stderr)


def _about(target: Target) -> dict[str, Any]:
    return {
        "arch": target.arch,
        "python": target.python,
        "from_debian": sorted(target.from_debian().values()),
        "lacking": sorted(target.lacking()),
    }


def _named(library: Locked | Wheel) -> dict[str, str]:
    return {"name": library.name, "version": library.version}


BUNDLE: Final = Command(
    "bundle", "the agent with all that it needs, for a device without internet, in one file", _add_arguments, _bundle
)
