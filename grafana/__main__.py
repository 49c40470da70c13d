"""`python -m grafana`: write, check, list."""

from __future__ import annotations

import argparse
import sys

from grafana import files, inventory
from grafana.alerts import files as alerts
from grafana.errors import GrafanaError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grafana",
        description="Headwater's dashboards and alerts: made by Python, kept as files for Grafana.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write", help="write dashboards (JSON) and alerts (YAML) anew, where they differ")
    commands.add_parser("check", help="exit status 1 where a file is not what its Python makes, which is named")
    commands.add_parser("list", help="every panel and the question that it answers, as Markdown")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "write":
            print("\n".join(path.name for path in [*alerts.write(), *files.write()]) or "nothing has changed")
            return 0
        if options.command == "list":
            print(inventory.listing(), end="")
            return 0
        wrong = [*files.differing(), *alerts.differing()]
    except (GrafanaError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    if wrong:
        print("\n".join([*wrong, "run `python -m grafana write`"]), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
