"""Typed errors. Each names the thing, the value found, the value wanted and the next step."""

from __future__ import annotations


class StrokelibError(Exception):
    """Base of every error that strokelib raises on purpose.

    Args:
        thing: What is wrong: a file, a parameter, an argument.
        found: The value found.
        wanted: The value wanted.
        next_step: What the user can do about it.
    """

    def __init__(self, thing: object, *, found: object, wanted: object, next_step: str) -> None:
        self.thing, self.found, self.wanted, self.next_step = str(thing), str(found), str(wanted), next_step
        super().__init__(self.thing, self.found, self.wanted, self.next_step)

    def __str__(self) -> str:
        return f"{self.thing}: found {self.found}; wanted {self.wanted}. Next step: {self.next_step}"


class ParameterError(StrokelibError, ValueError):
    """A parameter of a notebook, a command or a function has a wrong name, type or value."""


class DataError(StrokelibError, ValueError):
    """A file or an array cannot be used as it is."""


class ManifestError(StrokelibError, ValueError):
    """A ledger, split or checksum in ``data_manifests/`` does not hold."""


class CheckpointError(StrokelibError, RuntimeError):
    """A checkpoint is missing, damaged or belongs to another run."""


class PipelineError(StrokelibError, RuntimeError):
    """The workflow cannot go on: a tool is missing, a run is already under way, a notebook failed."""
