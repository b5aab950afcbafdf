"""Which scans are pre-trained on: S12, S13, no test scan, no patient twice, and a user's own scans alone."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from strokelib.errors import DataError
from strokelib.methods.ssl_sets import (
    SETS,
    Joined,
    Some,
    chosen_set,
    is_stroke,
    pretraining_sets,
    stroke_scans,
)

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads

SMALL = {"shape": (4, 12, 10)}


def scans(cohort, split, ill, well=0):
    """Scans with a lesion, and healthy ones; every other healthy one has no reference at all."""
    found = []
    for number in range(ill + well):
        case = made_heads.head(number, split, lesion=number < ill, **SMALL)
        lesion = None if number >= ill and number % 2 else case.lesion
        name = f"{cohort}-{split}-{number}"
        found.append(replace(case, id=name, patient=name, cohort=cohort, lesion=lesion))
    return found


def splits(cohort, ill, well):
    return {
        part: scans(cohort, part, *numbers)
        for part, numbers in zip(("train", "val", "test"), zip(ill, well, strict=True), strict=True)
    }


@pytest.fixture(scope="module")
def parts():
    return {
        "icoais": splits("icoais", (3, 2, 2), (1, 1, 1)),
        "aisd": splits("aisd", (2, 1, 1), (0, 0, 0)),
        "apis": splits("apis", (2, 1, 1), (2, 1, 1)),
        "center_tbi": splits("center_tbi", (0, 0, 0), (3, 2, 1)),
    }


class Counting(Sequence):
    """Cases that count how often they are read."""

    def __init__(self, cases):
        self.cases, self.read = cases, []

    def __len__(self):
        return len(self.cases)

    def __getitem__(self, index):
        self.read.append(index)
        return self.cases[index]


def names(cases):
    return [case.id for case in cases]


def numbered(cohort, split, numbers):
    return [f"{cohort}-{split}-{number}" for number in numbers]


# Lists of cases


def test_some_cases_of_others_are_read_when_they_are_asked_for():
    cases = Counting(list("abcdef"))
    some = Some(cases, (1, 3, 4))
    assert len(some) == 3
    assert not cases.read
    assert (some[0], some[-1]) == ("b", "e")
    assert cases.read == [1, 4]
    assert list(some[1:]) == ["d", "e"]
    assert isinstance(some[:2], Some)
    assert list(some) == ["b", "d", "e"]
    with pytest.raises(IndexError):
        some[3]


def test_several_lists_are_one_and_read_when_they_are_asked_for():
    first, last = Counting(list("ab")), Counting(list("cde"))
    joined = Joined((first, (), last))
    assert len(joined) == 5
    assert not first.read + last.read
    assert [joined[k] for k in (0, 2, 4, -1, -4)] == ["a", "c", "e", "e", "b"]
    assert list(joined) == list("abcde")
    for index in (5, -6):
        with pytest.raises(IndexError):
            joined[index]
    assert list(Joined(())) == []


def test_a_stroke_scan_has_a_reference_with_a_lesion():
    case = made_heads.head(0, **{"shape": (8, 24, 20)})
    assert is_stroke(case)
    assert not is_stroke(replace(case, lesion=None))
    assert not is_stroke(replace(case, lesion=case.lesion & False))


# The sets


def test_the_stroke_scans_are_those_with_a_lesion_and_healthy_data_sets_have_none(parts):
    found = stroke_scans(parts)
    assert set(found) == {(name, split) for name in ("icoais", "aisd", "apis") for split in ("train", "val", "test")}
    assert names(found["icoais", "train"]) == numbered("icoais", "train", range(3))
    assert names(found["apis", "val"]) == numbered("apis", "val", range(1))


def test_each_set_has_the_scans_that_the_paper_names(parts):
    found = pretraining_sets(parts, stroke_scans(parts))
    assert list(found) == list(SETS)
    ill = [*numbered("icoais", "train", range(3)), *numbered("aisd", "train", range(2))]
    ill += numbered("apis", "train", range(2))
    well = numbered("center_tbi", "train", range(3))
    assert sorted(names(found["STKp"][0])) == sorted(ill)
    assert sorted(names(found["STKn"][0])) == sorted(well)
    # S13: the healthy of icoAIS are in ALL; S12: those of APIS nowhere.
    assert sorted(names(found["ALL"][0])) == sorted([*ill, "icoais-train-3", *well])
    val = [*numbered("icoais", "val", range(3)), "aisd-val-0", "apis-val-0", *numbered("center_tbi", "val", range(2))]
    assert sorted(names(found["ALL"][1])) == sorted(val)


def test_no_test_scan_is_in_a_set_and_no_patient_in_both_parts(parts):
    for train, val in pretraining_sets(parts, stroke_scans(parts)).values():
        assert {case.split for case in train} == {"train"}
        assert {case.split for case in val} == {"val"}
        assert not {case.patient for case in train} & {case.patient for case in val}
        assert len(set(names(train))) == len(train)


def test_a_users_own_scans_alone_are_all_and_their_healthy_ones_stkn():
    own = {"aisd": splits("aisd", (3, 2, 1), (2, 2, 1))}
    found = pretraining_sets(own, stroke_scans(own))
    assert sorted(names(found["ALL"][0])) == numbered("aisd", "train", range(5))
    assert names(found["STKp"][0]) == numbered("aisd", "train", range(3))
    assert names(found["STKn"][0]) == numbered("aisd", "train", (3, 4))
    assert names(found["STKn"][1]) == numbered("aisd", "val", (2, 3))


@pytest.mark.parametrize("others", [(), ("icoais",)])
def test_all_holds_the_healthy_of_apis_where_they_are_stkn(parts, others):
    own = {"apis": splits("apis", (2, 2, 1), (2, 2, 1)), **{name: parts[name] for name in others}}
    found = pretraining_sets(own, stroke_scans(own))
    for part, split in enumerate(("train", "val")):
        healthy = set(numbered("apis", split, (2, 3)))
        assert healthy <= set(names(found["STKn"][part]))
        whole = set(names(found["ALL"][part]))
        assert whole == {*names(found["STKp"][part]), *names(found["STKn"][part])}
        # Beside a data set of healthy heads they are in no set (S12).
        beside = own | {"center_tbi": parts["center_tbi"]}
        for one in pretraining_sets(beside, stroke_scans(beside)).values():
            assert not healthy & set(names(one[part]))


@pytest.mark.parametrize("well", [(0, 0, 0), (1, 2, 0), (2, 1, 0)])
def test_a_set_with_fewer_than_two_training_or_validation_scans_is_left_out(well):
    own = {"icoais": splits("icoais", (3, 2, 1), well)}
    found = pretraining_sets(own, stroke_scans(own))
    assert list(found) == ["ALL", "STKp"]
    with pytest.raises(DataError, match=r"STKn(.|\n)*only ALL, STKp(.|\n)*two"):
        chosen_set(found, "STKn")
    assert chosen_set(found, "ALL") is found["ALL"]
    with pytest.raises(DataError, match="only none"):
        chosen_set({}, "ALL")


def test_a_data_set_without_one_of_the_splits_gives_what_it_has(parts):
    less = {**parts, "center_tbi": {"train": parts["center_tbi"]["train"]}}
    found = pretraining_sets(less, stroke_scans(less))
    assert "STKn" not in found
    assert set(names(parts["center_tbi"]["train"])) <= set(names(found["ALL"][0]))


def test_making_the_sets_reads_no_case_and_finding_strokes_each_one_once(parts):
    counted = {name: {split: Counting(cases) for split, cases in one.items()} for name, one in parts.items()}
    positive = stroke_scans(counted)
    everything = [cases for name, one in counted.items() for cases in one.values()]
    assert all(len(cases.read) <= len(cases) + 1 for cases in everything)
    for cases in everything:
        cases.read.clear()
    pretraining_sets(counted, positive)
    assert not any(cases.read for cases in everything)
