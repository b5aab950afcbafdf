import dataclasses
from pathlib import Path

import pytest

from strokelib.data.sources import RawCase
from strokelib.data.splitting import assign
from strokelib.errors import DataError


def raw(name, patient=None, split="", masked=True, **more):
    masks = {"reader": Path("mask")} if masked else {}
    return RawCase(name, patient or name, split, "plain", {"ct": Path("ct")}, masks, **more)


def splits_of(cases, cohort="xwhd", folder=None):
    return {case.id: case.split for case in assign(cases, cohort, folder)}


def test_open_cases_are_drawn_by_patient_and_the_order_of_files_does_not_matter():
    cases = [raw(f"scan{n}", f"patient{n // 2}") for n in range(60)]
    found = splits_of(cases)
    assert found == splits_of(cases[::-1])
    assert all(found[f"scan{2 * n}"] == found[f"scan{2 * n + 1}"] for n in range(30))
    counts = {split: list(found.values()).count(split) for split in ("train", "val", "test")}
    assert counts["test"] == pytest.approx(60 * 41 / 171, abs=1.5)
    assert counts["val"] == pytest.approx((60 - counts["test"]) * 18 / 130, abs=1.5)


def test_what_a_data_set_fixes_stays_and_only_val_is_drawn_from_its_training_part():
    cases = [raw(f"a{n}", split="train") for n in range(20)] + [raw(f"t{n}", split="test") for n in range(5)]
    found = splits_of(cases, "aisd")
    assert {found[f"t{n}"] for n in range(5)} == {"test"}
    assert sorted(set(found[f"a{n}"] for n in range(20))) == ["train", "val"]
    assert list(found.values()).count("val") == 3


def test_a_data_set_with_all_three_parts_is_left_alone():
    cases = [raw("a", split="train"), raw("b", split="val"), raw("c", split="test"), raw("d", split="train")]
    assert splits_of(cases) == {"a": "train", "b": "val", "c": "test", "d": "train"}


def test_scans_without_reference_are_hidden_unless_they_are_known_to_be_healthy():
    cases = [raw(f"s{n}") for n in range(4)] + [raw("none", masked=False), raw("well", masked=False, healthy=True)]
    found = splits_of(cases)
    assert found["none"] == "hidden"
    assert found["well"] != "hidden"


def test_three_scans_are_one_of_each_and_a_single_one_trains():
    assert sorted(splits_of([raw("a"), raw("b"), raw("c")]).values()) == ["test", "train", "val"]
    assert splits_of([raw("a")]) == {"a": "train"}


def test_a_file_of_the_user_wins(tmp_path):
    (tmp_path / "splits.csv").write_text("case,split\na,test\nb,val\nc,train\n")
    assert splits_of([raw("a"), raw("b"), raw("c")], folder=tmp_path) == {"a": "test", "b": "val", "c": "train"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("case,part\na,test\n", "'case', 'part'"),
        ("case,split\n", "no row"),
        ("case,split\na,exam\n", "exam"),
        ("case,split\na,test\na,val\n", "twice"),
        ("case,split\nz,test\n", "unknown"),
        ("case,split\na1,test\na2,train\n", "patient p in"),
    ],
)
def test_a_file_that_does_not_hold_is_refused(tmp_path, text, found):
    (tmp_path / "splits.csv").write_text(text)
    cases = [raw("a"), dataclasses.replace(raw("a1"), patient="p"), dataclasses.replace(raw("a2"), patient="p")]
    with pytest.raises(DataError, match=found):
        assign(cases, "xwhd", tmp_path)
