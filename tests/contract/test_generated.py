"""The committed protobuf module is the one that the schema generates."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_generated_module_is_current(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "--proto_path=.",
        f"--python_out={tmp_path}",
        f"--pyi_out={tmp_path}",
        "contract/sparkplug_b.proto",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in ("sparkplug_b_pb2.py", "sparkplug_b_pb2.pyi"):
        assert (tmp_path / "contract" / name).read_text() == (ROOT / "contract" / name).read_text(), "run `make proto`"
