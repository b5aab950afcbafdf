"""JSON files of another program, read entry by entry: what is missing or of another kind is named with its place."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokelib.errors import DataError

KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a finite number"}


@dataclass(frozen=True)
class Document:
    """A JSON file.

    Args:
        name: Of the file, for errors; no folder.
        content: What it holds.
    """

    name: str
    content: Any

    @classmethod
    def read(cls, path: str | os.PathLike) -> Document:
        """Read a file.

        Raises:
            DataError: It is missing, or holds no JSON object or list.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            said = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise DataError(path.name, found=said, wanted="a JSON file", next_step="check the folder") from error
        if not isinstance(content, dict | list):
            raise cls(path.name, content).refusal((), "a plain value", "an object or a list")
        return cls(path.name, content)

    def refusal(
        self, keys: Sequence[str], found: object, wanted: str, next_step: str = "correct the file"
    ) -> DataError:
        """The error for an entry."""
        place = ".".join(keys)
        return DataError(
            f"{self.name}: {place}" if place else self.name, found=found, wanted=wanted, next_step=next_step
        )

    def has(self, *keys: str) -> bool:
        """Whether there is an entry at a place."""
        held = self.content
        for key in keys:
            if not isinstance(held, dict) or key not in held:
                return False
            held = held[key]
        return True

    def entry(self, *keys: str, kind: type | None = None) -> Any:
        """The value at a place: one key for each level.

        Args:
            keys: From the outside in.
            kind: One of dict, list, str, int, float; None for any.

        Raises:
            DataError: There is none, or it is of another kind.
        """
        held = self.content
        for depth, key in enumerate(keys):
            if not isinstance(held, dict) or key not in held:
                there = ", ".join(map(str, list(held)[:12])) if isinstance(held, dict) else f"a {type(held).__name__}"
                raise self.refusal(keys[:depth], there or "nothing", f"the key {key}")
            held = held[key]
        if kind is not None and not is_a(held, kind):
            raise self.refusal(keys, repr(held)[:80], KINDS[kind])
        return held

    def numbers(self, *keys: str, kind: type = int, length: int | None = None) -> tuple[Any, ...]:
        """A list of numbers at a place; as :meth:`entry`, and a DataError too where it has another length."""
        return self.numbers_in(keys, self.entry(*keys, kind=list), kind, length)

    def rows(self, *keys: str, kind: type = int, length: int = 3) -> tuple[tuple[Any, ...], ...]:
        """A list of lists of numbers at a place, each of ``length`` numbers."""
        held = self.entry(*keys, kind=list)
        return tuple(self.numbers_in((*keys, str(i)), row, kind, length) for i, row in enumerate(held))

    def numbers_in(self, keys: Sequence[str], held: Any, kind: type, length: int | None) -> tuple[Any, ...]:
        """A list that is already at hand, checked as :meth:`numbers` does."""
        sized = isinstance(held, list) and (length is None or len(held) == length)
        if not sized or not all(is_a(value, kind) for value in held):
            wanted = f"{'a list of' if length is None else length} numbers, each {KINDS[kind]}"
            raise self.refusal(keys, repr(held)[:80], wanted)
        return tuple(kind(value) for value in held)


def is_a(value: Any, kind: type) -> bool:
    """Whether a value of a JSON file is of a kind; a whole number counts as a finite one, true and false as neither."""
    if kind in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number and (kind is float or float(value).is_integer())
    return isinstance(value, kind)
