"""What every training reads off its recipe in the same way: how long it is, how often it is looked at, its name."""

from __future__ import annotations

from typing import Any

LOGGED = 500


def paced(recipe: Any) -> dict[str, Any]:
    """Arguments of :func:`strokelib.train.fit`: a checkpoint at each validation, at most about 1,000 training rows.

    Args:
        recipe: With ``steps``, ``validations`` and ``key()``.
    """
    every = max(1, recipe.steps // recipe.validations)
    return {
        "steps": recipe.steps,
        "validate_every": every,
        "checkpoint_every": every,
        "log_every": max(1, recipe.steps // LOGGED),
        "recipe_key": recipe.key(),
    }
