"""The jars from stream/pom.xml under the pyspark of the lock file; that the two read Kafka, tests/stream shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyspark

from stack import connector_jars
from stack.install import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_no_connector_jar_shadows_one_of_sparks_own() -> None:
    def artifacts(jars: Iterator[Path]) -> set[str]:
        return {jar.name.rpartition("-")[0] for jar in jars}

    assert pyspark.__file__ is not None
    shipped = artifacts((CHECKOUT / pyspark.__file__).parent.joinpath("jars").glob("*.jar"))
    assert shipped
    assert not shipped & artifacts(iter(connector_jars()))
