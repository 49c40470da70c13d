"""`python -m models deploy MODEL VERSION DIRECTORY`: puts a version where an agent or the stream watches for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from models.cli.command import OK, Command, registry_of, takes_registry
from models.cli.keeping import check_skill, takes_anyway
from models.cli.tables import verdict
from models.errors import RegistryError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from models.registry import Registry


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="name of the model")
    parser.add_argument("version", metavar="VERSION", help="its version, or a stage, such as live")
    parser.add_argument(
        "directory",
        type=Path,
        metavar="DIRECTORY",
        help="becomes a link to the version, which lies in DIRECTORY.versions",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    takes_anyway(parser)
    takes_registry(parser)


def _deploy(args: Namespace) -> int:
    registry = registry_of(args)
    found = registry.find(args.model, args.version)
    check_skill(found, anyway=args.anyway)
    place, version = args.directory, found.card.version
    if place.exists() and not place.is_symlink():
        raise RegistryError(f"{place}: is there, and is no link that this command made: move it away first")
    before = place.readlink().name if place.is_symlink() else "nothing"
    print(f"{place}: {found.card.name} {version}, instead of {before}; skill: {verdict(found.card)}")
    if not args.dry_run:
        switch(place, bring(registry, found.card.name, version, place))
    return OK


def bring(registry: Registry, name: str, version: str, place: Path) -> Path:
    """The version in a directory beside `place`, whole or not at all."""
    versions = place.with_name(f"{place.name}.versions")
    wanted = versions / version
    if wanted.is_dir():
        return wanted
    try:
        versions.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".part-", dir=versions))
        try:
            registry.fetch(name, version, scratch)
            scratch.chmod(0o755)
            scratch.rename(wanted)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as exc:
        raise RegistryError(f"{versions}: cannot be written: {exc.strerror}") from exc
    return wanted


def switch(place: Path, wanted: Path) -> None:
    """Lets `place` be a link to `wanted`, in one step: who looks sees the one version or the other."""
    scratch = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(wanted.relative_to(place.parent))
        scratch.replace(place)
    except OSError as exc:
        raise RegistryError(f"{place}: cannot be switched: {exc.strerror}") from exc


DEPLOY = Command("deploy", "put a version where an agent watches for it", _add_arguments, _deploy)
