"""What names a set of cases."""

import dataclasses

import numpy as np

from strokelib.data.cases import Case, Volume
from strokelib.methods.rolls import roll_of

MAPS = {"cbf": np.full((2, 3, 4), 50, np.float32), "series": np.zeros((5, 2, 3, 4), np.int16)}


def head(number):
    hu = (np.arange(24, dtype=np.int16) + number).reshape(2, 3, 4)
    split = "test" if number else "train"
    return Case(f"aisd-{number:04d}", f"p{number}", "aisd", split, Volume(hu, np.eye(4)), lesion=hu % 2 == 0)


def fingerprint(channels):
    return roll_of([dataclasses.replace(head(0), channels=channels)]).fingerprint


def test_cases_without_channels_keep_the_fingerprint_they_had_before_there_were_any():
    roll = roll_of([head(0), head(1)])
    assert roll.fingerprint == "d67d83c4"
    assert (roll.n, roll.test, roll.patients) == (2, ("aisd-0001",), {"p0", "p1"})


def test_a_fingerprint_changes_with_the_name_the_values_and_the_type_of_a_channel():
    other = {"cbf": MAPS["cbf"].copy()}
    other["cbf"][1, 2, 3] += 1
    variants = [
        {},
        {"cbf": MAPS["cbf"]},
        {"cbv": MAPS["cbf"]},
        other,
        {"cbf": MAPS["cbf"].astype(np.float64)},
        {"cbf": MAPS["cbf"][None]},
        MAPS,
    ]
    assert len({fingerprint(channels) for channels in variants}) == len(variants)


def test_the_order_of_channels_does_not_matter():
    assert fingerprint(MAPS) == fingerprint(dict(reversed(MAPS.items())))
