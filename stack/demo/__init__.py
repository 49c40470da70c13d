"""The whole of Headwater on one machine: real servers, simulators, three agents, the bridge and the Spark job."""

from stack.demo.run import run_demo
from stack.demo.system import System

__all__ = ["System", "run_demo"]
