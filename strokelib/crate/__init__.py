"""The record of a run as an RO-Crate: written and packed by ``record``, held to the specification by ``checks``."""

from strokelib.crate.checks import problems
from strokelib.crate.record import NAME, build, pack, write

__all__ = ["NAME", "build", "pack", "problems", "write"]
