"""Options are words: what is not one of them is refused."""

from __future__ import annotations

from strokelib.errors import ParameterError


def chosen(thing: str, word: str, words: tuple[str, ...]) -> None:
    """Refuse a word that is not one of these.

    Args:
        thing: Name of the argument.
        word: What was given.
        words: What can be given.

    Raises:
        ParameterError: Another word.
    """
    if word not in words:
        raise ParameterError(thing, found=repr(word), wanted=" or ".join(words), next_step="choose one of these")
