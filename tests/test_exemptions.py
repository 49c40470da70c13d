"""Every exemption from the linter or the type checker says why it is one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
ROLES = (*BUILD["targets"]["wheel"]["packages"], "bench", "tests")
# The codes, and nothing behind them.
BARE = re.compile(r"# (noqa(: [A-Z]+\d+(, [A-Z]+\d+)*)?|type: ignore(\[[a-z, -]+\])?)$")


def test_every_exemption_gives_its_reason() -> None:
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for role in ROLES
        for path in sorted((ROOT / role).rglob("*.py"))
        if not path.stem.endswith("_pb2")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BARE.search(line)
    ]
    assert bare == []
