"""The table of what the oldest runtime has is held against that runtime, in a process without TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.quantization.measuring import runtimes
from models.quantization.operators import NEWEST_VERSION

ROOT = Path(__file__).parents[3]
ANY = ROOT / "tests" / "edge" / "models" / "nets" / "steady.tflite"
ASK = """
import json, sys
import flatbuffers
from tflite_runtime.interpreter import Interpreter
from ai_edge_litert import schema_py_generated as schema

model = schema.ModelT.InitFromPackedBuf(open(sys.argv[1], "rb").read(), 0)
own = list(model.operatorCodes)

def has(code, version):
    more = schema.OperatorCodeT()
    more.builtinCode, more.deprecatedBuiltinCode, more.version = code, min(code, 127), version
    model.operatorCodes = [*own, more]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    try:
        Interpreter(model_content=bytes(builder.Output()))
    except ValueError:
        return False
    return True

names = {name: code for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
newest = {name: max((v for v in range(1, 15) if has(code, v)), default=0) for name, code in names.items()}
json.dump({name: version for name, version in newest.items() if version}, sys.stdout)
"""


@pytest.mark.skipif("tflite-runtime" not in runtimes(), reason="tflite-runtime ends with Python 3.11")
def test_the_table_is_what_the_oldest_runtime_has() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(ANY)], capture_output=True, text=True, check=True, cwd=ROOT, timeout=120
    )
    assert json.loads(done.stdout) == NEWEST_VERSION
