"""Which scans a figure shows: chosen by rule, the median by Dice, never by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from strokelib.errors import DataError


def median_case(names: Iterable[str], dice: Mapping[str, float]) -> str:
    """The scan with the median Dice.

    Of an even number the higher of the two in the middle; of equal ones the later name. A Dice of 0 counts like any
    other.

    Args:
        names: One scan or more.
        dice: Scan -> Dice.

    Raises:
        DataError: There is no scan.
    """
    ranked = sorted(names, key=lambda name: (dice[name], name))
    if not ranked:
        step = "choose a split with infarcts"
        raise DataError("scans to show", found="none with a lesion", wanted="one or more", next_step=step)
    return ranked[len(ranked) // 2]


def median_cases(
    volume_ml: Mapping[str, float], dice: Mapping[str, float], limits_ml: tuple[float, float], count: int = 3
) -> list[str]:
    """The scan with the median Dice (:func:`median_case`) of the large, the middling and the small lesions.

    Scans without lesion do not count; a group without a scan shows none.

    Args:
        volume_ml: Scan -> volume of its reference.
        dice: Scan -> Dice.
        limits_ml: Large lesions lie above the first; middling ones reach down to the second.
        count: How many groups, from large to small.

    Raises:
        DataError: No scan of these groups has a lesion.
    """
    large, small = limits_ml
    groups: list[list[str]] = [[], [], []]
    for name, ml in volume_ml.items():
        if ml > 0:
            groups[0 if ml > large else 1 if ml >= small else 2].append(name)
    shown = [median_case(group, dice) for group in groups[:count] if group]
    if not shown:
        found, step = f"{len(volume_ml)} without lesion", "choose a split with infarcts"
        raise DataError("scans to show", found=found, wanted="a lesion", next_step=step)
    return shown
