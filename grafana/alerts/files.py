"""The files from which Grafana provisions rules, contact points and the notification policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from grafana.alerts import groups, notify, rules, uids
from grafana.errors import AlertError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from grafana.alerts import Group

DIRECTORY: Final = Path(__file__).parents[1] / "provisioning" / "alerting"
# Another folder than the dashboards', which Grafana makes later and by a uid of its own.
FOLDER: Final = "Headwater alerts"
RULES: Final = "rules.yaml"
_HEADER: Final = "# Made by `python -m grafana write`; what it means stands in docs/alerts.md.\n"


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""

    def ignore_aliases(self, data: object) -> bool:
        """Nothing stands for something else: Grafana's files are read by people, too."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def documents() -> dict[str, dict[str, object]]:
    """By the file's name."""
    return {
        RULES: {
            "apiVersion": 1,
            "groups": [_group(group) for group in groups()],
            "deleteRules": [{"orgId": 1, "uid": uid} for uid in sorted(retired())],
        },
        "contact-points.yaml": {"apiVersion": 1, "contactPoints": list(notify.contact_points())},
        "policies.yaml": {"apiVersion": 1, "policies": [notify.policy()]},
    }


def retired() -> frozenset[str]:
    """The uids of rules that there are no more."""
    return uids.known() - {rule.uid for rule in rules()}


def _group(group: Group) -> dict[str, object]:
    return {
        "orgId": 1,
        "name": group.name,
        "folder": FOLDER,
        "interval": group.every,
        "rules": [rule.as_provisioned() for rule in group.rules],
    }


def rendered(document: Mapping[str, object]) -> str:
    """A document as YAML; the same each time."""
    text = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000)
    return _HEADER + text


def write(directory: Path = DIRECTORY) -> list[Path]:
    """Write what differs; which these were. Raises AlertError."""
    for wrong in _forgotten(directory):
        raise AlertError(wrong)
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {directory / name: rendered(document) for name, document in documents().items()}
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], "utf-8")
    return changed


def differing(directory: Path = DIRECTORY) -> Iterator[str]:
    """What is wrong with the files, a line each."""
    yield from _forgotten(directory)
    for name, document in documents().items():
        path = directory / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.read_text("utf-8") != rendered(document):
            yield f"{name} differs from its Python"


def _forgotten(directory: Path) -> Iterator[str]:
    """Rules that were given to somebody's Grafana, and would stay there for ever."""
    path = directory / RULES
    if not path.is_file():
        return
    for uid in sorted(_uids(yaml.safe_load(path.read_text("utf-8"))) - uids.known()):
        yield f"{RULES} has the rule {uid}, which grafana/alerts/uids.py no longer knows: nothing would delete it"


def _uids(document: Mapping[str, Any]) -> set[str]:
    there = {rule["uid"] for group in document["groups"] for rule in group["rules"]}
    return there | {gone["uid"] for gone in document["deleteRules"]}
