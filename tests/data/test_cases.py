"""Cases on disk: nothing is lost, and what was written before can be read."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from strokelib.data.cases import Case, Volume, fullest_slice, load_case, save_case, shown_slice
from strokelib.errors import DataError

HU = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
CHANNELS = {
    "cbf": HU.astype(np.float32),
    "series": np.stack([HU + t for t in range(5)]),
    "truth.like": HU > 3,
}


def case(**more):
    return Case("made-1", "p1", "made", "train", Volume(HU, np.eye(4)), HU > 20, HU > 2, facts={"age": 60}, **more)


def test_channels_come_back_with_name_shape_and_type(tmp_path):
    written = case(truth={"tissue": HU.astype(np.uint8)}, channels=CHANNELS)
    found = load_case(save_case(written, tmp_path / "case.safetensors"))
    assert set(found.channels) == set(CHANNELS)
    for name, array in CHANNELS.items():
        assert found.channels[name].dtype == array.dtype
        np.testing.assert_array_equal(found.channels[name], array)
    assert set(found.truth) == {"tissue"}
    assert (found.id, found.facts, found.embedded) == (written.id, written.facts, False)
    np.testing.assert_array_equal(found.lesion, written.lesion)


def test_a_case_has_no_channels_unless_it_is_given_some(tmp_path):
    assert case().channels == {}
    assert load_case(save_case(case(), tmp_path / "case.safetensors")).channels == {}


def test_a_file_written_before_there_were_channels_is_read(tmp_path):
    path = tmp_path / "old.safetensors"
    header = {"id": "a", "patient": "b", "cohort": "c", "split": "val", "facts": {}, "embedded": True}
    arrays = {"image": HU, "affine": np.eye(4), "lesion": HU > 20, "truth.tissue": HU.astype(np.uint8)}
    save_file(arrays, path, {"case": json.dumps(header)})
    found = load_case(path)
    assert (found.id, found.split, found.embedded) == ("a", "val", True)
    assert found.brain is None
    assert found.channels == {}
    np.testing.assert_array_equal(found.truth["tissue"], HU)


def test_a_file_cut_short_is_refused_by_name(tmp_path):
    path = save_case(case(channels=CHANNELS), tmp_path / "case.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"case\.safetensors"):
        load_case(path)


def test_the_slice_shown_is_the_first_of_those_with_most_lesion():
    lesion = np.zeros((4, 3, 5), bool)
    lesion[1, 0, :2] = lesion[2, 1:, 0] = lesion[3, 0, 0] = True
    assert fullest_slice(lesion) == 1
    assert fullest_slice(lesion.astype(np.uint8)) == 1
    assert shown_slice(dataclasses.replace(case(), lesion=lesion, brain=~lesion)) == 1
    with pytest.raises(DataError, match="slice of scan-1: found a reference without lesion"):
        fullest_slice(lesion & False, "scan-1")


@pytest.mark.parametrize(("name", "words"), [("lesion", "no reference"), ("brain", "no brain mask")])
def test_a_case_without_reference_or_brain_has_no_slice_to_show(name, words):
    with pytest.raises(DataError, match=f"case made-1: found {words}"):
        shown_slice(dataclasses.replace(case(), **{name: None}))
