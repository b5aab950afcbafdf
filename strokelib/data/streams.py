"""An endless seeded stream of batches whose whole state is one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np

from strokelib.errors import ParameterError


class SeededStream(ABC):
    """Batches of samples, each drawn from a generator of its own.

    Sample number i is drawn from a generator seeded by (seed, i): it depends on nothing before it and not on how the
    samples are cut into batches. No global random generator is touched, so a stream may run in a thread of its own.

    Args:
        batch: Samples a batch, at least 1.
        seed: Seed of the stream, not negative.

    Raises:
        ParameterError: Batch or seed is too small.
    """

    def __init__(self, batch: int, seed: int) -> None:
        if batch < 1 or seed < 0:
            found, wanted = f"batch {batch}, seed {seed}", "a batch of 1 or more and a seed of 0 or more"
            raise ParameterError(type(self).__name__, found=found, wanted=wanted, next_step="correct the recipe")
        self.batch, self.seed, self.drawn = batch, seed, 0

    @abstractmethod
    def draw(self, first: int, generators: list[np.random.Generator]) -> Any:
        """Make a batch.

        Args:
            first: Number of the batch's first sample in the stream.
            generators: One a sample.
        """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next batch; where it cannot be made the position stays."""
        numbers = range(self.drawn, self.drawn + self.batch)
        made = self.draw(self.drawn, [np.random.default_rng((self.seed, i)) for i in numbers])
        self.drawn += self.batch
        return made

    def state_dict(self) -> dict[str, int]:
        """The position in the stream."""
        return {"seed": self.seed, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position of the same stream.

        Raises:
            ParameterError: The position is of a stream with another seed.
        """
        if state["seed"] != self.seed:
            raise ParameterError(
                "sampler", found=f"seed {state['seed']}", wanted=f"seed {self.seed}", next_step="give the run's seed"
            )
        self.drawn = state["drawn"]
