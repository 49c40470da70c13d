"""What list, show and watch share: the database, and the home's registry where there is a home."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from contract.config import ConfigError
from fleet.cli.arguments import HOME_VARIABLE, home_path, open_home, takes_home
from fleet.view.database import add_database, chosen_dsn, opened
from fleet.view.wording import plain

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable, Iterator

    from fleet.home import Home
    from fleet.registry import Node as Enrolled
    from fleet.view.database import Database
    from fleet.view.node import Node


def takes_sight(parser: ArgumentParser) -> None:
    """The options --dsn and --home."""
    add_database(parser)
    takes_home(parser)


@contextmanager
def database(args: Namespace) -> Iterator[Database]:
    """The database that was chosen; raises ConfigError or FleetError."""
    with opened(chosen_dsn(args.dsn)) as found:
        yield found


def home_if_any(args: Namespace) -> Home | None:
    """The operator's directory; None where none was named and none is here."""
    is_named = args.home is not None or bool(os.environ.get(HOME_VARIABLE))
    return open_home(args) if is_named or home_path(args).exists() else None


def enrolled(home: Home | None) -> tuple[Enrolled, ...]:
    """The nodes of the home, if there is one."""
    return () if home is None else home.registry.nodes()


def check_group(args: Namespace, everyone: Iterable[Node]) -> None:
    """Raises ConfigError where --group names none, of the home's or of a node's."""
    home = home_if_any(args)
    groups = {node.group for node in everyone} | set(() if home is None else home.settings.groups)
    if args.group is not None and groups and args.group not in groups:
        raise no_group("--group", args.group, groups)


def no_group(where: str, found: str, groups: Iterable[str]) -> ConfigError:
    """That a group is none of those there are."""
    return ConfigError(f"{where}: found {plain(found)!r}, allowed: {plain(', '.join(sorted(groups)))}")


def node_in_json(node: Node, now: datetime) -> dict[str, Any]:
    """A node for programs."""
    troubles = [trouble._asdict() for trouble in node.troubles(now)]
    return {**asdict(node), "state": node.state(now).value, "troubles": troubles}


def print_json(told: object) -> None:
    """Prints it; times in ISO 8601."""
    print(json.dumps(told, indent=2, default=_spelt))


def _spelt(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
