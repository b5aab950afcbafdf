"""Hyper-parameters, once: the published value, its smoke and demo values, and where it was stated.

A recipe is a frozen dataclass that derives from :class:`Recipe`; each field is one line made by :func:`stated`::

    @dataclass(frozen=True)
    class UNetRecipe(Recipe):
        width: int = stated(64, demo=12, smoke=4, source="assumed: not stated")

``UNetRecipe.at("demo")`` is the recipe of the demo profile; :func:`describe` prints what was stated and what was
guessed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Self

from strokelib.settings import Profile


def stated(paper: Any, *, demo: Any = None, smoke: Any = None, source: str) -> Any:
    """A recipe's field: ``paper`` is the published value; ``demo`` defaults to it, ``smoke`` to the demo value."""
    demo = paper if demo is None else demo
    smoke = demo if smoke is None else smoke
    return field(default=paper, metadata={"paper": paper, "demo": demo, "smoke": smoke, "source": source})


@dataclass(frozen=True)
class Recipe:
    """Base of every recipe."""

    @classmethod
    def at(cls, profile: Profile | str, **changes: Any) -> Self:
        """The recipe of a profile; ``changes`` replace single values by name."""
        profile = Profile(profile).value
        values = {f.name: f.metadata[profile] for f in dataclasses.fields(cls)}
        return dataclasses.replace(cls(**values), **changes)

    def key(self) -> str:
        """Ten hexadecimal digits that name this recipe in a cache."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(f"{type(self).__name__}{text}".encode()).hexdigest()[:10]


def describe(recipe: Recipe) -> str:
    """A plain-text table: name, value used, published value, source."""
    rows = [("name", "here", "published", "source")]
    for f in dataclasses.fields(recipe):
        here, paper = getattr(recipe, f.name), f.metadata["paper"]
        rows.append((f.name, str(here), "same" if here == paper else str(paper), f.metadata["source"]))
    widths = [max(len(r[i]) for r in rows) for i in range(3)]
    return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(r, widths, strict=False)), r[3]]) for r in rows)
