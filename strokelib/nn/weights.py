"""Weights that go from one network into another."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from strokelib.errors import DataError


def check_encoder(own: Mapping[str, Tensor], given: Mapping[str, Tensor], next_step: str) -> None:
    """Refuse weights that are not those of an encoder, entry by entry.

    Args:
        own: The encoder's, by name.
        given: Those that shall take their place.
        next_step: Of the error.

    Raises:
        DataError: A weight is missing, unknown, of another shape, or not finite.
    """
    for name in sorted({*own, *given}):
        weight = given.get(name)
        found = "nothing" if weight is None else f"shape {tuple(weight.shape)}"
        wanted = f"shape {tuple(own[name].shape)}" if name in own else "no such weight"
        if found == wanted and not bool(weight.isfinite().all()):
            found, wanted = "values that are not finite", "finite values"
        if found != wanted:
            raise DataError(f"encoder weight {name}", found=found, wanted=wanted, next_step=next_step)
