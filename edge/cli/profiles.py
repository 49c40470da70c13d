"""`python -m edge profiles [NAME]`: the Modbus devices whose register maps come with the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge.cli.command import OK, Command, print_table
from edge.sources.modbus.profile import load_profile, profile_names

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from edge.sources.modbus.profile import Profile


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="tell of this one: its source, how to ask it, its points"
    )


def _profiles(args: Namespace) -> int:
    if args.name is None:
        print_table([("profile", "kind", "models", "points"), *map(_row, profile_names())])
    else:
        _describe(load_profile(args.name))
    return OK


def _row(name: str) -> tuple[str, str, str, str]:
    profile = load_profile(name)
    return name, profile.kind, f"{profile.manufacturer} {', '.join(profile.models)}", str(len(profile.points))


def _describe(profile: Profile) -> None:
    print(f"{profile.manufacturer} {', '.join(profile.models)}: {profile.kind}")
    print(f"map: {profile.source.title}, {profile.source.edition}, {profile.source.part}")
    lines = []
    if profile.serial is not None:
        lines.append(f"serial {profile.serial.baudrate} baud, parity {profile.serial.parity}")
    if profile.tcp:
        lines.append("Modbus TCP")
    print(f"line: {' or '.join(lines)}; unit id {profile.unit_id}; requests for all points: {len(profile.blocks())}")
    if profile.notes is not None:
        print(f"note: {profile.notes}")
    if profile.unchecked is not None:
        print(f"not checked against the maker's document: {profile.unchecked}")
    print()
    rows = [("point", "table", "address", "datatype", "unit", "description")]
    rows += [
        (point.name, point.table, str(point.address), point.datatype, point.unit or "", point.description or "")
        for point in profile.points
    ]
    print_table(rows)


PROFILES: Final = Command(
    "profiles", "list the Modbus devices whose register maps come with the agent", _add_arguments, _profiles
)
