"""When a training stops before its last step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from strokelib.errors import ParameterError
from strokelib.train.history import Row


@dataclass(frozen=True)
class Patience:
    """Stop when the best validation value has not risen for a number of validations.

    A value counts as a rise where it exceeds the last one that counted, and by ``least_gain`` or more; the first number
    counts, a NaN never does. After ``validations`` validations in a row without a rise the training stops. The rule
    reads nothing but the history, so a resumed run stops where an uninterrupted one does.

    Args:
        name: A validation quantity of which more is better, e.g. ``dice``.
        validations: How many validations without a rise are waited for, 1 or more.
        least_gain: Smallest rise that counts, in the quantity's unit, 0 or more.

    Raises:
        ParameterError: A number is out of its range.
    """

    name: str
    validations: int
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        if self.validations < 1 or not 0 <= self.least_gain < math.inf:
            raise ParameterError(
                "patience",
                found=f"{self.validations} validations, least gain {self.least_gain}",
                wanted="1 validation or more, a gain of 0 or more",
                next_step="correct the rule",
            )

    def reason(self, rows: Iterable[Row]) -> str | None:
        """Why the training stops after these rows, in words; None where it goes on."""
        reached, at, waited = -math.inf, 0, 0
        for row in rows:
            if row.split != "val" or row.name != self.name:
                continue
            if row.value > reached and row.value - reached >= self.least_gain:
                reached, at, waited = row.value, row.step, 0
            else:
                waited += 1
            if waited >= self.validations:
                gain = f"by {self.least_gain:g} or more " if self.least_gain else ""
                since = f"above {reached:.6g} (step {at})" if at else "from no value at all"
                return (
                    f"stopped early at step {row.step}: {self.name} had not risen {gain}{since} in {waited} validations"
                )
        return None
