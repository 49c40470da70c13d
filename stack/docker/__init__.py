"""A Docker engine on a machine that has none, and images that stand in for the published ones."""

from __future__ import annotations

from stack.docker.engine import Docker, Engine, working_engine
from stack.docker.standins import build_python, build_standins

__all__ = ["Docker", "Engine", "build_python", "build_standins", "working_engine"]
